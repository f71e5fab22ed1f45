"""The three questions of an audit, each with the answer that a result gives, or why none was asked."""

from collections.abc import Sequence
from dataclasses import replace

from lightning_adv.results.inspection import InspectionResult
from lightning_adv.results.result import Answer, EvaluationResult
from lightning_adv.results.robustness import RobustnessResult
from lightning_adv.results.weights_file import FileResult

__all__ = ["answers"]

LESS = "The run was cut to fit its time, as listed below: this says less than a whole one."

ASKED: tuple[type[EvaluationResult], ...] = (FileResult, InspectionResult, RobustnessResult)


def answers(
    sections: Sequence[EvaluationResult], unasked: str, cuts: Sequence[str] = ()
) -> list[tuple[Answer, int | None]]:
    """Answers in the order of the questions, each with the place of the section that gives it.

    Args:
        sections: of the report.
        unasked: why a question that no section answers was not asked.
        cuts: what was left out for want of time, which makes an answer say less.
    """
    given: list[tuple[Answer, int | None]] = []
    for kind in ASKED:
        found = [(each.answer(), place) for place, each in enumerate(sections) if isinstance(each, kind)]
        if cuts and kind is not FileResult:
            found = [(replace(answer, text=f"{answer.text} {LESS}"), place) for answer, place in found]
        given += found or [(Answer(kind.question, "Not asked", f"{unasked[0].upper()}{unasked[1:]}."), None)]
    return given
