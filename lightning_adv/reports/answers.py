"""The three questions of an audit, each with the answer that a result gives, or why none was asked."""

from collections.abc import Sequence

from lightning_adv.results.inspection import InspectionResult
from lightning_adv.results.result import Answer, EvaluationResult
from lightning_adv.results.robustness import RobustnessResult
from lightning_adv.results.weights_file import FileResult

__all__ = ["answers"]

ASKED: tuple[type[EvaluationResult], ...] = (FileResult, InspectionResult, RobustnessResult)


def answers(sections: Sequence[EvaluationResult], unasked: str) -> list[tuple[Answer, int | None]]:
    """Answers in the order of the questions, each with the place of the section that gives it.

    Args:
        sections: of the report.
        unasked: why a question that no section answers was not asked.
    """
    given: list[tuple[Answer, int | None]] = []
    for kind in ASKED:
        found = [(each.answer(), place) for place, each in enumerate(sections) if isinstance(each, kind)]
        given += found or [(Answer(kind.question, "Not asked", f"{unasked}."), None)]
    return given
