from dataclasses import dataclass

import pytest

from lightning_adv.results.lines import lines
from lightning_adv.results.result import EvaluationResult, KeyFigure, Table


@dataclass(kw_only=True)
class Two(EvaluationResult):
    """Two shares."""

    def scalars(self) -> dict[str, float]:
        return {"a": 0.5, "b/c": 1.0}

    def tables(self) -> list[Table]:
        return []

    def summary(self) -> str:
        return "A sentence of a few words about what was found."

    def key_figures(self) -> list[KeyFigure]:
        return [KeyFigure("a", "Short", "with this", (0.4, 0.625)), KeyFigure("b/c", "A longer label")]

    def as_dict(self) -> dict:
        return {}


RESULT = Two(title="Two shares", stage="test")


def test_a_pipe_gets_a_line_for_each_figure():
    assert list(lines(RESULT, ["read this first"])) == [
        "Two shares (test)",
        "  A sentence of a few words about what was found.",
        "  Short            50.0%   40.0\N{EN DASH}62.5%  with this",
        "  A longer label  100.0%",
        "  warning: read this first",
    ]


@pytest.mark.parametrize("width", [30, 40, 80])
def test_a_terminal_gets_no_line_that_is_wider(width):
    found = list(lines(RESULT, ["read this first, whatever else you do"], width))
    assert max(map(len, found)) <= width
    words = " ".join(" ".join(found).split())
    assert RESULT.summary() in words
    assert "warning: read this first, whatever else you do" in words
    assert "50.0%" in words
