"""The page of the concealed-backdoor experiment: the paper's tables beside what was measured."""

from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from experiments.concealed_backdoors.setup import CONTROLS, SETTINGS, TABLES, Cell, PaperTable, Setting
from experiments.page import prose
from lightning_adv.inspectors import find_outliers
from lightning_adv.results.result import Cell as Entry
from lightning_adv.results.result import Table
from lightning_adv.results.shares import percent, percent_interval, wilson_interval

__all__ = ["AUTHORS", "PARTS", "Found", "all_tables", "budgets", "evades_at_most", "mean_of", "repeats_of", "times"]

AUTHORS = "_at_authors_budget"
"""Behind a cell's name: what Neural Cleanse finds in its models at its authors' budget."""

NAMES = ("own", "white")
PARTS = (0.4, 0.6, 0.8, 0.9, 1.0)
"""Shares of a trigger's pixels that models are asked with."""

Found = dict[str, dict]
"""Measured repeats by ``data/cell/repeat.json``."""


def budgets(settings: dict[str, Setting]) -> str:
    """What the inspections cost, in words."""
    lines = []
    for name, each in settings.items():
        cleanse, inspect = (", ".join(f"{k} {v}" for k, v in part.items()) for part in (each.cleanse, each.inspect))
        lines.append(
            f"- {name}: {each.backbone}{_options(each)}, {each.epochs} epochs{_decay(each)}{' in bf16' * each.bf16}; "
            f"{each.clean_images} clean images; Neural Cleanse {cleanse} "
            f"(its authors: 1000 steps of 1000 images); DeepInspect {inspect}"
        )
    return "Budgets:\n\n" + "\n".join(lines)


def _decay(setting: Setting) -> str:
    return f", the rate falling to 0 over the last {setting.decay:.0%}," if setting.decay else ""


def _options(setting: Setting) -> str:
    options = ", ".join(f"{name} {value}" for name, value in setting.backbone_options.items())
    return f" ({options})" if options else ""


def all_tables(found: Found) -> list[Table]:
    """Tables 1 to 6, as far as they were measured, then the controls and the defences."""
    of_paper = [_paper_table(table, found) for table in TABLES if any(repeats_of(found, r.cell) for r in table.rows)]
    return [*of_paper, _controls(found), _anatomy(found), *_budget_table(found), _defences(found)]


def repeats_of(found: Found, cell: Cell) -> list[dict]:
    """The measured repeats of a cell."""
    start = f"{cell.data}/{cell.name}/"
    return [each for name, each in found.items() if name.startswith(start)]


def _paper_table(table: PaperTable, found: Found) -> Table:
    clean = repeats_of(found, Cell(table.headline.data, "clean"))
    baseline = f"{_spread(clean, 'clean_accuracy')} ({percent(table.baseline)})"
    rows: list[Sequence[Entry]] = []
    for row in table.rows:
        done, target = repeats_of(found, row.cell), SETTINGS[row.cell.data].target
        paper = " and ".join(f"{100 * share:.0f}%" for share in row.evaded)
        if not done:
            continue
        rows.append(
            [
                f"rate {row.cell.rate:g}" + (f", z {row.cell.z}" if row.cell.z else ""),
                len(done),
                f"{_spread(done, 'attack_success_rate')} ({percent(row.attack)})",
                f"{_spread(done, 'clean_accuracy')} ({percent(row.normal)})",
                baseline,
                f"{times(done, lambda each, t=target: t not in each['neural_cleanse']['flagged'])} ({paper})",
                times(done, lambda each, t=target: evades_at_most(each, t)),
                times(done, lambda each: not each["neural_cleanse"]["flagged"]),
                times(done, lambda each, t=target: t not in each["deep_inspect"]["flagged"]),
                f"{fmean(each['mask_pixels'] for each in done):.0f}",
            ]
        )
    columns = ["cell", "repeats", "attack accuracy", "normal accuracy", "baseline", "evades Neural Cleanse"]
    columns += ["ceiling: at the hidden norm", "nothing flagged", "evades DeepInspect", "mask"]
    return Table(f"Table {table.number}: {table.title}", columns, [list(row) for row in rows])


def evades_at_most(each: dict, target: int) -> bool:
    """Whether the target would evade if the inspector had to find all of the hidden trigger: a mask of its norm."""
    norms = [*each["neural_cleanse"]["norms"]]
    norms[target] = each["mask_pixels"]
    return target not in (find_outliers(norms).flagged or ())


def _controls(found: Found) -> Table:
    rows: list[list[Entry]] = []
    for data, setting in SETTINGS.items():
        for attack in CONTROLS:
            done = repeats_of(found, Cell(data, attack))
            for name, verdicts in _verdicts(done).items():
                rows.append(
                    [
                        f"{data}, {attack}",
                        name,
                        len(done),
                        mean_of(done, "attack_success_rate"),
                        mean_of(done, "clean_accuracy"),
                        times(verdicts, lambda each, t=setting.target: t in each["flagged"]),
                        times(verdicts, lambda each: each["flagged"]),
                        times(verdicts, lambda each: each["significant"]),
                    ]
                )
    columns = ["model", "inspector", "repeats", "attack accuracy", "normal accuracy", "target flagged", "any flagged"]
    title = "Controls: clean models and BadNets"
    return Table(title, [*columns, "any significant"], rows, note=prose(__file__, title))


def _verdicts(done: list[dict]) -> dict[str, list[dict]]:
    """Both inspectors' verdicts, and DeepInspect's on norms in place of their logarithms."""
    if not done:
        return {}
    plain = [find_outliers(each["deep_inspect"]["norms"], double=True) for each in done]
    return {
        "Neural Cleanse": [each["neural_cleanse"] for each in done],
        "DeepInspect": [each["deep_inspect"] for each in done],
        "DeepInspect, its paper's scale": [
            {"flagged": each.flagged or (), "significant": each.significant or ()} for each in plain
        ],
    }


def _anatomy(found: Found) -> Table:
    """What Neural Cleanse found of the triggers."""
    rows: list[list[Entry]] = []
    for cell in _attacks():
        done = [each for each in repeats_of(found, cell) if "recovered" in each]
        if not done:
            continue
        cleanse, recovered = [each["neural_cleanse"] for each in done], [each["recovered"] for each in done]
        evading = [each["median"] - 2 * find_outliers(each["norms"]).scale for each in cleanse]
        own, white = ([fmean(part) for part in zip(*(each["partly"][k] for each in done), strict=True)] for k in NAMES)
        rows.append(
            [
                f"{cell.data}, {cell.name.replace('_', ' ')}",
                len(done),
                f"{fmean(each['mask_pixels'] for each in done):.0f}",
                f"{fmean(each['norm'] for each in cleanse):.0f} of {fmean(each['median'] for each in cleanse):.0f}",
                f"{fmean(evading):.0f}",
                f"{fmean(each['index'] for each in cleanse):.1f}",
                f"{fmean(each['common_pixels'] for each in recovered):.0f} of "
                f"{fmean(each['pixels'] for each in recovered):.0f}",
                f"{_known(recovered, 'value')} ({_known(recovered, 'true_value')})",
                ", ".join(percent(share) for share in own),
                ", ".join(percent(share) for share in white),
            ]
        )
    shares = ", ".join(f"{share:g}" for share in PARTS)
    columns = ["attack", "repeats", "hidden mask, px", "norm of target, of median", "norm that would evade"]
    columns += ["index", "found pixels in the hidden mask", "their value (hidden)"]
    columns += [f"led to target by {shares} of the pixels", "the same pixels in white"]
    title = "Why a trigger is found"
    return Table(title, columns, rows, note=prose(__file__, title))


def _known(recovered: list[dict], key: str) -> str:
    """Mean of what is no NaN: a found trigger that misses the hidden one has no value there."""
    values = [each[key] for each in recovered if each[key] == each[key]]
    return f"{fmean(values):.2f}" if values else percent(None)


def _budget_table(found: Found) -> list[Table]:
    """Verdicts at the authors' budget beside those at ours, of the same models; empty if none was asked for."""
    rows: list[list[Entry]] = []
    for cell in [Cell(data, "clean") for data in SETTINGS] + _attacks():
        ours, theirs = f"{cell.data}/{cell.name}/", f"{cell.data}/{cell.name}{AUTHORS}/"
        pairs = [
            (found[name]["neural_cleanse"], found[full])
            for full in found
            if full.startswith(theirs) and (name := full.replace(theirs, ours)) in found
        ]
        for which, budget in enumerate(("ours", "the authors'")) if pairs else ():
            each = [pair[which] for pair in pairs]
            numbers = [f"{fmean(verdict[key] for verdict in each):.1f}" for key in ("norm", "median", "index")]
            target = SETTINGS[cell.data].target
            flagged = sum(target in verdict["flagged"] for verdict in each)
            name = f"{cell.data}, {cell.name.replace('_', ' ')}"
            rows.append([name, budget, len(each), *numbers, f"{flagged} of {len(each)}"])
    columns = ["model", "budget", "repeats", "norm of target", "median", "index of target", "target flagged"]
    return [Table("The same models at the authors' budget", columns, rows)] if rows else []


def _attacks() -> list[Cell]:
    return [Cell(data, "badnets") for data in SETTINGS] + [row.cell for table in TABLES for row in table.rows]


def _defences(found: Found) -> Table:
    rows: list[list[Entry]] = []
    for cell in _attacks():
        done = repeats_of(found, cell)
        if not done:
            continue
        repaired = [
            " / ".join(mean_of([each[name] for each in done], key) for key in ("attack_success_rate", "clean_accuracy"))
            + "*" * any(each[name].get("clipped") for each in done)
            for name in ("fine_pruning", "unlearning")
        ]
        before = " / ".join(mean_of(done, key) for key in ("attack_success_rate", "clean_accuracy"))
        name = f"{cell.data}, {cell.name.replace('_', ' ')}"
        rows.append([name, len(done), f"{_auroc(done)}", before, *repaired])
    columns = ["attack", "repeats", "STRIP AUROC", "before", "Fine-Pruning", "unlearning"]
    title = "Other defences"
    return Table(title, columns, rows, note=prose(__file__, title))


def _auroc(done: list[dict]) -> str:
    areas = [each["strip_auroc"] for each in done]
    return f"{fmean(areas):.3f}" + (f" ± {stdev(areas):.3f}" if len(areas) > 1 else "")


def mean_of(done: list[dict], key: str) -> str:
    """Mean of a share over the repeats that have it."""
    values = [each[key] for each in done if key in each]
    return percent(fmean(values)) if values else percent(None)


def _spread(done: list[dict], key: str) -> str:
    values = [100 * each[key] for each in done]
    return mean_of(done, key) + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def times(done: list[dict], holds: Callable[[dict], object]) -> str:
    """How often something holds, with its interval."""
    hits = sum(bool(holds(each)) for each in done)
    return f"{hits} of {len(done)}, {percent_interval(wilson_interval(hits, len(done)))}"
