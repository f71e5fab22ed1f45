"""The tables of the page: layouts, what the networks answer, what inspections find, and which verdict to believe."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.kept import content
from experiments.open_models.measure import BUDGETS, EPS, Measured
from experiments.open_models.trials import Layout, Trial
from experiments.page import RESULTS, prose
from experiments.subjects import SUBJECTS
from lightning_adv.inspectors import find_outliers
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval

__all__ = ["answers_table", "inspection_table", "layouts_table", "robustness_table", "verdicts_table"]

PUBLISHED_ROBUST = {"PGD": "95.9", "AutoAttack": "between 94.2 (proven) and 95.9 (PGD)"}
CONCEALED = ("concealed_backdoors.json", "concealed_backdoors_wide.json")
TARGETS = {"MNIST": 2, "GTSRB": 33, "Faces": 21}
"""Of the concealed-backdoor experiment."""

Found = Mapping[str, dict]
"""What was measured, by the path of its record."""


def layouts_table(trials: Sequence[tuple[Layout, Trial]]) -> Table:
    """A row for each kind of file and each thing that becomes of it."""
    groups: dict[tuple[str, str], list[tuple[Layout, Trial]]] = {}
    for layout, trial in trials:
        groups.setdefault((layout.kind, trial.outcome), []).append((layout, trial))
    rows: list[list[Cell]] = []
    before = ""
    for (kind, outcome), members in groups.items():
        gaps = [trial.gap for _, trial in members if trial.gap is not None]
        names = "; ".join(layout.name for layout, _ in members)
        variants, before = "the same" if names == before else names, names
        rows.append([kind, variants, len(members), outcome, max(gaps, default=None)])
    wanted = sum(trial.outcome == layout.outcome for layout, trial in trials)
    title = "Layouts"
    note = prose(__file__, title, count=len(trials), wanted=wanted)
    return Table(title, ["what", "variants", "files", "outcome", "largest gap of a logit"], rows, note=note)


def answers_table(measured: Iterable[Measured], found: Found) -> Table:
    """Accuracies and what triggers do, beside what is said of them."""
    rows: list[list[Cell]] = []
    for each in measured:
        clean = found.get(f"{each.subject.name}/clean.json")
        if clean is None:
            continue
        led = found.get(f"{each.subject.name}/triggered.json")
        said = each.subject.said
        rows.append([each.subject.name, each.gap(), clean["samples"], said.get("clean", ""), _share(clean, "right")])
        rows[-1] += [said.get("triggered", ""), None if led is None else _share(led, "led")]
    shares = ("clean accuracy", "attack success")
    title = "What the networks answer"
    return Table(
        title,
        ["network", "gap of a logit", "images", "said, %", shares[0], "said of success, %", shares[1]],
        rows,
        percent=shares,
        note=prose(__file__, title),
    )


def robustness_table(found: Found) -> Table:
    """Robust accuracy of the network that is proven robust."""
    rows: list[list[Cell]] = []
    start = f"mnist_provable_eps0.1/{{}}_{EPS}_"
    parts: dict[str, dict[str, dict]] = {attack: {} for attack in PUBLISHED_ROBUST}
    for name, each in found.items():
        for attack in parts:
            if name.startswith(start.format(attack)):
                parts[attack][name.removeprefix(start.format(attack))] = each
    same = {name: each for name, each in parts["PGD"].items() if name in parts["AutoAttack"]}
    for attack, portions in (*parts.items(), ("PGD on the images of AutoAttack", same)):
        if portions:
            whole = {key: sum(each[key] for each in portions.values()) for key in ("samples", "right")}
            interval = percent_interval(wilson_interval(whole["right"], whole["samples"]))
            published = PUBLISHED_ROBUST.get(attack, "")
            rows.append([attack, whole["samples"], published, _share(whole, "right"), interval])
    title = "The network that is proven robust"
    columns = ["attack", "images", "published, %", "robust accuracy", "95 % interval"]
    return Table(title, columns, rows, percent=("robust accuracy",), note=prose(__file__, title, eps=EPS))


def inspection_table(found: Found, models: Path) -> Table:
    """What Neural Cleanse finds in each network with each budget, where all classes were searched."""
    rows: list[list[Cell]] = []
    for budget in BUDGETS:
        for name in SUBJECTS:
            searches = _searches(found, name, budget)
            if searches:
                rows.append([name, budget, *_inspected(searches, name, models)])
    missing = [
        f"{name} ({budget})"
        for name, subject in SUBJECTS.items()
        for budget in BUDGETS
        if len(_searches(found, name, budget)) < subject.classes
    ]
    title = "Neural Cleanse"
    columns = ["network", "budget", "classes", "flagged", "corrected", "p", "target's norm", "its index", "median norm"]
    places = ["its mask", "the trigger", "weight of the mask in it", "steps", "CPU seconds"]
    return Table(
        title,
        [*columns, *places],
        rows,
        percent=("weight of the mask in it",),
        note=prose(__file__, title, missing=", ".join(missing) or "none"),
    )


def _inspected(searches: list[dict], name: str, models: Path) -> list[Cell]:
    subject = SUBJECTS[name]
    steps, seconds = (sum(each[key] for each in searches) for key in ("steps", "seconds"))
    cost: list[Cell] = [steps, round(seconds)]
    known = {each["label"]: each for each in searches}
    target = known.get(subject.target)
    place: list[Cell] = [None, None, None]
    if target is not None:
        shape = (len(target["rows"]), len(target["columns"]))
        support = subject.trigger(models).support((_channels(name), *shape))[0]
        rows, columns = (support.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
        inside = min(
            sum(target[side][first : last + 1]) / sum(target[side])
            for side, (first, last) in (("rows", (rows[0], rows[-1])), ("columns", (columns[0], columns[-1])))
        )
        place = [_box(target["box"]), _box([rows[0], rows[-1], columns[0], columns[-1]]), inside]
    if len(searches) < subject.classes:
        norm = None if target is None else target["norm"]
        return [f"{len(searches)} of {subject.classes}", "", "", None, norm, None, None, *place, *cost]
    outliers = find_outliers([each["norm"] for each in searches])
    norm, index = (None, None) if target is None else (target["norm"], outliers.index[subject.target])
    verdicts = [", ".join(map(str, each)) or "none" for each in (outliers.flagged, outliers.significant)]
    return [len(searches), *verdicts, outliers.p_value, norm, index, outliers.median, *place, *cost]


def verdicts_table(found: Found) -> Table:
    """How often the two verdicts differ, by whether a backdoor is there, in all inspections of this project."""
    counts: dict[str, list[int]] = {}
    for kind, there, corrected, by_rule in (*_concealed(), *_own(found)):
        row = counts.setdefault(kind, [int(there), 0, 0, 0, 0])
        row[1] += 1
        row[2 if corrected else 3 if by_rule else 4] += 1
    rows: list[list[Cell]] = [[kind, *row[1:]] for kind, row in counts.items()]
    for there, name in ((1, "all with a backdoor"), (0, "all clean")):
        total = [sum(row[i] for row in counts.values() if row[0] == there) for i in range(1, 5)]
        rows.append([name, *total])
    title = "Which verdict to believe"
    columns = ["models", "number", "flagged by both", "by the paper's rule alone", "by neither"]
    return Table(title, columns, rows, note=prose(__file__, title))


Judged = tuple[str, bool, bool, bool]
"""Kind of model, whether it has a backdoor, and whether the corrected verdict and the paper's rule see one."""


def _concealed() -> Iterable[Judged]:
    """Repeats of the concealed-backdoor experiment: the verdict on the target, of clean models on any class."""
    for file in CONCEALED:
        for name, record in json.loads((RESULTS / file).read_text())["repeats"].items():
            data, cell, _ = name.split("/")
            each, there = content(record), not cell.startswith("clean")
            if "neural_cleanse" not in each:  # the authors' budget, of a model that is counted with ours
                continue
            verdicts = (each["neural_cleanse"][key] for key in ("significant", "flagged"))
            seen = [TARGETS[data] in labels if there else bool(labels) for labels in verdicts]
            yield f"{data}, {cell.split('_')[0]}{', wide net' if 'wide' in file else ''}", there, *seen


def _own(found: Found) -> Iterable[Judged]:
    for name, subject in SUBJECTS.items():
        budgets = (each for each in BUDGETS if len(_searches(found, name, each)) == subject.classes)
        budget = next(budgets, None)
        if budget is not None:
            outliers = find_outliers([each["norm"] for each in _searches(found, name, budget)])
            there = subject.target is not None
            verdicts = (outliers.significant, outliers.flagged)
            seen = [subject.target in labels if there else bool(labels) for labels in verdicts]
            yield f"{'published, with a backdoor' if there else 'clean networks of this page'}", there, *seen


def _searches(found: Found, name: str, budget: str) -> list[dict]:
    known = (found.get(f"{name}/{budget}_{label}.json") for label in range(SUBJECTS[name].classes))
    return [each for each in known if each is not None]


def _channels(name: str) -> int:
    return SUBJECTS[name].data().in_channels


def _share(counts: Mapping[str, int], of: str) -> float:
    return counts[of] / counts["samples"]


def _box(box: Sequence[int]) -> str:
    return f"rows {box[0]} to {box[1]}, columns {box[2]} to {box[3]}"
