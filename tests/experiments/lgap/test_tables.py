"""LGAP's tables say what was measured."""

import pytest

from experiments.lgap.tables import attacks_table, blind_table, caption_table, guidance_table

KINDS, THREATS = ("undefended", "caption", "nothing"), ("bpda", "bpda_eot", "adaptive")


@pytest.fixture
def found() -> dict[tuple[str, str, str, str], list[float]]:
    """Figures that all differ: the blind ones above the informed."""
    figures = {}
    for model in ("as trained", "fine-tuned"):
        for kind in KINDS:
            for attack in ("none", "pgd", "pgd10", "autoattack"):
                figures[model, kind, attack, "blind"] = [0.9 - 0.01 * len(figures)] * 2
    for kind in KINDS[1:]:
        for threat in THREATS:
            figures["fine-tuned", kind, "pgd", threat] = [0.5 - 0.01 * len(figures), 0.4]
    return figures


def test_the_least_figure_is_that_of_an_attacker_who_knows(found):
    rows = {row[0]: row for row in guidance_table(found).rows}
    assert set(rows) == {"caption", "nothing"}
    for kind, row in rows.items():
        informed = [sum(found["fine-tuned", kind, "pgd", threat]) / 2 for threat in THREATS]
        assert row[-1] == pytest.approx(min(informed))


def test_every_classifier_and_prompt_stands_beside_the_paper(found):
    names = [row[0] for row in blind_table(found).rows]
    assert names[:3] == ["as trained, undefended", "as trained, caption", "as trained, nothing"]
    assert names[-2:] == ["the paper: CIFAR-10", "the paper: CIFAR-100"]
    informed = {row[0]: row for row in attacks_table(found).rows}
    assert informed["BPDA + EOT"][2] == sum(found["fine-tuned", "caption", "pgd", "bpda_eot"]) / 2
    assert informed["BPDA + EOT"][4] == 0.4496


def test_captions_that_name_the_class_are_counted():
    table = caption_table(["a 1", "a 2", "a 1"], ["a 1", "a 1", "a 1"], [1, 2, 2])
    assert table.rows[-1][1:] == ["66.7 %", "33.3 %"]
    assert [row[0] for row in table.rows[:-1]] == ["1", "2"]
