"""A transfer matrix shows every share, and refuses a matrix of another shape."""

import pytest

from lightning_adv.results.transfer import transfer_matrix


def test_every_share_is_written_in_its_cell():
    figure = transfer_matrix({"a": [[0.0, 0.25]], "b": [[0.5, 1.0]]}, ["lr"], ["dt", "knn"])
    texts = [text.get_text() for panel in figure.axes for text in panel.texts]
    assert texts == ["0", "25", "50", "100"]
    assert [panel.get_title() for panel in figure.axes[:2]] == ["a", "b"]


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="matrix 'a' is not 1 x 2"):
        transfer_matrix({"a": [[0.0]]}, ["lr"], ["dt", "knn"])
