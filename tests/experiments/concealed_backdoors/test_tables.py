"""The paper's tables beside what was measured."""

from experiments.concealed_backdoors.setup import SETTINGS
from experiments.concealed_backdoors.tables import all_tables, budgets
from experiments.page import markdown
from tests.experiments.concealed_backdoors.measured import found_in


def test_the_tables_say_how_many_repeats_there_are_beside_the_papers_figures(run):
    tables = all_tables(found_in(run))
    assert [table.title.split(":")[0] for table in tables] == [
        "Table 1",
        "Controls",
        "Why a trigger is found",
        "Other defences",
    ]
    (row,) = tables[0].rows
    assert row[:2] == ["rate 0.6", 1]
    assert "(99.9%)" in row[2]
    assert row[5].endswith("(90%)")
    assert "of 1" in row[5]
    assert "Fine-Pruning" in markdown(tables[-1])
    assert "steps 150" in budgets(SETTINGS)


def test_evasion_counts_the_repeats_in_which_the_target_is_not_flagged():
    def repeat(flagged, mask):
        norms = [58.0, 60.0, 5.0, 61.0, 59.0, 62.0, 57.0, 63.0, 60.5, 59.5]  # of the target, 2, a sixth of the mask
        verdict = {"flagged": flagged, "significant": [], "norm": 5.0, "median": 60.0, "norms": norms}
        repaired = {"clean_accuracy": 1.0, "attack_success_rate": 0.0}
        shares = {"clean_accuracy": 0.9, "attack_success_rate": 1.0, "strip_auroc": 0.5, "mask_pixels": mask}
        defences = {"fine_pruning": repaired, "unlearning": repaired}
        return {"neural_cleanse": verdict, "deep_inspect": verdict, **shares, **defences}

    flags, masks = [[2], [], [5], [2, 7], []], [58.0, 36.0, 36.0, 58.0, 36.0]
    cells = [repeat(*each) for each in zip(flags, masks, strict=True)]
    table, *_ = all_tables({f"MNIST/random_rate0.6_z36/{number}.json": each for number, each in enumerate(cells)})
    (row,) = table.rows
    at = dict(zip(table.columns, row, strict=True))
    assert at["evades Neural Cleanse"].startswith("3 of 5")  # nothing flagged, or another class
    assert at["nothing flagged"].startswith("2 of 5")
    assert at["ceiling: at the hidden norm"].startswith("2 of 5")  # a mask as large as other classes' triggers


def test_the_controls_judge_deep_inspects_norms_on_both_scales():
    norms = [100.0, 90, 0.5, 80, 78, 50, 45, 44, 85]
    flags = {"flagged": [2], "significant": [2], "norms": norms}
    repeat = {"neural_cleanse": flags, "deep_inspect": flags, "clean_accuracy": 0.9, "attack_success_rate": 1.0}
    rows = next(t.rows for t in all_tables({"MNIST/clean/0.json": repeat}) if t.title.startswith("Controls"))
    assert [row[1] for row in rows] == ["Neural Cleanse", "DeepInspect", "DeepInspect, its paper's scale"]
    assert [row[5][:6] for row in rows] == ["1 of 1", "1 of 1", "0 of 1"]
