"""The page of the concealed-backdoor experiment: the paper's tables beside what was measured."""

from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from experiments.concealed_setup import CONTROLS, SETTINGS, TABLES, Cell, PaperTable, Setting
from lightning_adv.reports.results import Cell as Entry
from lightning_adv.reports.results import Table
from lightning_adv.reports.shares import percent, percent_interval, wilson_interval

__all__ = ["TEXT", "Found", "all_tables", "budgets"]

Found = dict[str, dict]
"""Measured repeats by ``data/cell/repeat.json``."""

TEXT = (
    "Every figure is a mean over repeats (seeds 0, 1, ...: network, order, choice of images, trigger and "
    "inspection), with the paper's in brackets. Attack accuracy leaves out images of the target class. *Evades* "
    "counts repeats in which Neural Cleanse's rule (index above 2) does not flag the target, which is what the "
    "paper can have counted; *nothing flagged* is stricter, for a clean model is flagged too, see the controls. "
    "Intervals are Wilson's, 95 %. On MNIST the paper covers the whole training set: cover images are added to it. "
    "GTSRB and the faces (ORL, 40 people, instead of YouTube Faces) are smaller sets than the paper's, and poisoned "
    "in the same shares. The last table tells why a trigger is found or not: the norm that Neural Cleanse needs for "
    "the target, over the median of all classes. Of the random trigger of seed 0 on MNIST it takes 11 of the 36 "
    "pixels, all of them white where the pattern is grey: cover images teach that a part of the pattern means "
    "nothing, but never show stronger values."
)


def budgets(settings: dict[str, Setting]) -> str:
    """What the inspections cost, in words."""
    lines = []
    for name, each in settings.items():
        cleanse, inspect = (", ".join(f"{k} {v}" for k, v in part.items()) for part in (each.cleanse, each.inspect))
        lines.append(
            f"- {name}: {each.backbone}, {each.epochs} epochs; {each.clean_images} clean images; "
            f"Neural Cleanse {cleanse} (its authors: 1000 steps of 1000 images); DeepInspect {inspect}"
        )
    return "Budgets:\n\n" + "\n".join(lines)


def all_tables(found: Found) -> list[Table]:
    """Tables 1 to 6, as far as they were measured, then the controls and the defences."""
    of_paper = [_paper_table(table, found) for table in TABLES if any(_repeats(found, r.cell) for r in table.rows)]
    return [*of_paper, _controls(found), _defences(found)]


def _repeats(found: Found, cell: Cell) -> list[dict]:
    start = f"{cell.data}/{cell.name}/"
    return [each for name, each in found.items() if name.startswith(start)]


def _paper_table(table: PaperTable, found: Found) -> Table:
    clean = _repeats(found, Cell(table.headline.data, "clean"))
    baseline = f"{_mean(clean, 'clean_accuracy')} ({percent(table.baseline)})"
    rows: list[Sequence[Entry]] = []
    for row in table.rows:
        done, target = _repeats(found, row.cell), SETTINGS[row.cell.data].target
        paper = " and ".join(f"{100 * share:.0f}%" for share in row.evaded)
        if not done:
            continue
        rows.append(
            [
                f"rate {row.cell.rate:g}" + (f", z {row.cell.z}" if row.cell.z else ""),
                len(done),
                f"{_mean(done, 'attack_success_rate')} ({percent(row.attack)})",
                f"{_mean(done, 'clean_accuracy')} ({percent(row.normal)})",
                baseline,
                f"{_count(done, lambda each, t=target: t not in each['neural_cleanse']['flagged'])} ({paper})",
                _count(done, lambda each: not each["neural_cleanse"]["flagged"]),
                _count(done, lambda each, t=target: t not in each["deep_inspect"]["flagged"]),
                f"{fmean(each['mask_pixels'] for each in done):.0f}",
            ]
        )
    columns = ["cell", "repeats", "attack accuracy", "normal accuracy", "baseline", "evades Neural Cleanse"]
    columns += ["nothing flagged", "evades DeepInspect", "mask"]
    return Table(f"Table {table.number}: {table.title}", columns, [list(row) for row in rows])


def _controls(found: Found) -> Table:
    rows: list[list[Entry]] = []
    for data, setting in SETTINGS.items():
        for attack in CONTROLS:
            done = _repeats(found, Cell(data, attack))
            for key, name in (("neural_cleanse", "Neural Cleanse"), ("deep_inspect", "DeepInspect")) if done else ():
                rows.append(
                    [
                        f"{data}, {attack}",
                        name,
                        len(done),
                        _mean(done, "attack_success_rate"),
                        _mean(done, "clean_accuracy"),
                        _count(done, lambda each, k=key, t=setting.target: t in each[k]["flagged"]),
                        _count(done, lambda each, k=key: each[k]["flagged"]),
                        _count(done, lambda each, k=key: each[k]["significant"]),
                    ]
                )
    columns = ["model", "inspector", "repeats", "attack accuracy", "normal accuracy", "target flagged", "any flagged"]
    note = "Of a clean model, every flag is a false alarm; *any significant* corrects for the number of classes."
    return Table("Controls: clean models and BadNets", [*columns, "any significant"], rows, note=note)


def _defences(found: Found) -> Table:
    rows: list[list[Entry]] = []
    cells = [Cell(data, "badnets") for data in SETTINGS] + [row.cell for table in TABLES for row in table.rows]
    for cell in cells:
        done = _repeats(found, cell)
        if not done:
            continue
        repaired = [
            " / ".join(_mean([each[name] for each in done], key) for key in ("attack_success_rate", "clean_accuracy"))
            for name in ("fine_pruning", "unlearning")
        ]
        before = " / ".join(_mean(done, key) for key in ("attack_success_rate", "clean_accuracy"))
        norms = [each["neural_cleanse"]["norm"] / each["neural_cleanse"]["median"] for each in done]
        name = f"{cell.data}, {cell.name.replace('_', ' ')}"
        rows.append([name, len(done), f"{fmean(norms):.2f}", f"{_auroc(done)}", before, *repaired])
    columns = ["attack", "repeats", "norm of target / median", "STRIP AUROC", "before", "Fine-Pruning", "unlearning"]
    note = "Before and after a mitigation: attack accuracy / normal accuracy on the test images."
    return Table("Other defences", columns, rows, note=note)


def _auroc(done: list[dict]) -> str:
    areas = [each["strip_auroc"] for each in done]
    return f"{fmean(areas):.3f}" + (f" ± {stdev(areas):.3f}" if len(areas) > 1 else "")


def _mean(done: list[dict], key: str) -> str:
    values = [each[key] for each in done if key in each]
    return percent(fmean(values)) if values else percent(None)


def _count(done: list[dict], holds: Callable[[dict], object]) -> str:
    hits = sum(bool(holds(each)) for each in done)
    return f"{hits} of {len(done)}, {percent_interval(wilson_interval(hits, len(done)))}"
