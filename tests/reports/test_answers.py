from lightning_adv.reports.answers import LESS, answers
from tests.results.samples import attack


def test_a_question_that_was_not_asked_says_why(robustness):
    given = answers([robustness(attacks=[attack("pgd", [30, 20])])], "the file holds code")
    assert [answer.short for answer, place in given if place is None] == ["Not asked", "Not asked"]
    assert [answer.text for answer, place in given if place is None] == ["The file holds code."] * 2


def test_an_answer_that_was_cut_short_says_so(robustness):
    (_, _, (whole, place)), (_, _, (cut, _)) = (answers([robustness()], "no", cuts) for cuts in ((), ("steps",)))
    assert place == 0
    assert cut.text == f"{whole.text} {LESS}"
