"""What several tests share is made once: xdist gives the tests of a group to one worker."""

import pytest


def test_a_group_stands_in_the_names_of_its_tests_from_which_xdist_knows_it(request):
    grouped = [each for each in request.session.items if each.get_closest_marker("xdist_group")]
    if not grouped or not getattr(request.config.option, "loadgroup", False):
        pytest.skip("no tests are shared out by groups")
    assert all("@" in each.nodeid for each in grouped)
