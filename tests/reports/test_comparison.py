import pytest

from lightning_adv.reports.comparison import compare
from lightning_adv.reports.storage import results_document, section_document


@pytest.fixture
def compared(robustness, provenance):
    """The first key figure's counterpart when a result is compared with a run of the given results."""

    def first(result, *others):
        document = results_document("Other", provenance, [section_document(o, []) for o in others], {}, {})
        return compare([section_document(result, [])], {"other": document})[0][0].others[0]

    return first


def test_the_section_of_the_same_title_and_latest_epoch_counts(robustness, compared):
    early = robustness(epoch=1, clean_correct=80, per_class_clean_correct=[50, 30])
    late = robustness(epoch=2, clean_correct=85, per_class_clean_correct=[50, 35])
    other = compared(robustness(), late, early, robustness(title="More attacks", epoch=9))
    assert other.share == 0.85
    assert other.gain == pytest.approx(0.05)


def test_another_stage_does_not_compare(robustness, compared):
    other = compared(robustness(stage="val"), robustness(stage="test"))
    assert (other.share, other.gain) == (None, None)


def test_a_sole_section_compares_under_another_title_and_one_of_several_does_not(robustness, compared):
    assert compared(robustness(title="A"), robustness(title="B")).share == 0.9
    assert compared(robustness(title="A"), robustness(title="B"), robustness(title="C")).share is None
