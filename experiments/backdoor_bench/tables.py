"""The tables of the bench: attacks down, what is set against them across."""

from collections.abc import Callable, Mapping, Sequence

from experiments.backdoor_bench.measure import CONTROL, FAMILIES, UNTOLD, Figures
from experiments.backdoor_bench.setup import ATTACKS, NONE, SETTINGS
from experiments.page import prose
from lightning_adv.results.result import Cell, Table

__all__ = ["Found", "tables"]

Found = Mapping[tuple[str, str], Mapping[str, Sequence[Figures]]]
"""Attack and family to the figures of each method, a seed each."""


def tables(data: str, found: Found) -> list[Table]:
    """All tables of one data set, as far as they were measured."""
    target = SETTINGS[data].target
    every = [
        _attacks(data, found),
        _matrix(data, found, "scans", "recall / false alarms", _pair("recall", "false_alarms")),
        _matrix(data, found, "scans", "classes flagged", _classes("flagged", target)),
        _matrix(data, found, "scans", "area under the ROC curve", _area),
        _matrix(data, found, "inspectors", "corrected verdict", _classes("significant", target)),
        _matrix(data, found, "inspectors", "the paper's rule", _classes("flagged", target)),
        _matrix(data, found, "detectors", "detected at 5 % false alarms", _one("detected")),
        _matrix(data, found, "detectors", "area under the ROC curve", _area),
        _matrix(
            data, found, "mitigations", "attack success / clean accuracy", _pair("attack_success", "clean_accuracy")
        ),
        _matrix(data, _with_controls(found), "mitigations", "attack success after retuning", _one("retuned")),
        _costs(data, found),
    ]
    return [table for table in every if table.rows]


def _attacks(data: str, found: Found) -> Table:
    rows: list[list[Cell]] = []
    for attack in ATTACKS:
        models = found.get((attack, "model"), {})
        if (seeds := models.get("model")) is None:
            continue
        accuracy, success, false = (
            spread([each[name] for each in seeds]) for name in ("clean_accuracy", "attack_success", "false_activation")
        )
        untold = spread([each["attack_success"] for each in models.get(UNTOLD, ())])
        poisoned, published = seeds[0]["poisoned"], ATTACKS[attack].published
        rows.append([attack, poisoned, accuracy, success, untold, false, published, len(seeds)])
    names = [
        "attack",
        "images poisoned",
        "clean accuracy",
        "attack success",
        "on the clean model",
        "false activation",
        "published",
        "seeds",
    ]
    return Table(f"{data}: attacks", names, rows, note=prose(__file__, "attacks"))


def _matrix(data: str, found: Found, family: str, what: str, cell: Callable[[Sequence[Figures], str], str]) -> Table:
    methods = list(dict.fromkeys(name for attack in ATTACKS for name in found.get((attack, family), {})))
    rows: list[list[Cell]] = []
    for attack in ATTACKS:
        measured = found.get((attack, family), {})
        if measured:
            rows.append([attack, *(_told(measured.get(name, ()), attack, cell) for name in methods)])
    return Table(f"{data}: {family}, {what}", ["attack", *methods], rows, note=prose(__file__, family))


def _with_controls(found: Found) -> Found:
    """What retuning does to a network that was never poisoned, beside what it does to mended ones."""
    controls = {attack: found.get((attack, "model"), {}).get(CONTROL, ()) for attack in ATTACKS}
    beside = dict(found)
    for attack in ATTACKS:
        if (attack, "mitigations") in found:
            beside[attack, "mitigations"] = {CONTROL: controls[attack], **found[attack, "mitigations"]}
    return beside


def _told(seeds: Sequence[Figures], attack: str, cell: Callable[[Sequence[Figures], str], str]) -> str:
    """A cell of what was measured, and where a method does not suit the model, so."""
    if any("refused" in each for each in seeds):
        return "does not suit"
    return cell(seeds, attack) if seeds else ""


def _costs(data: str, found: Found) -> Table:
    """Seconds of a method, over attacks and seeds."""
    rows: list[list[Cell]] = []
    for family in FAMILIES[1:]:
        seconds: dict[str, list[float]] = {}
        for attack in ATTACKS:
            for name, seeds in found.get((attack, family), {}).items():
                seconds.setdefault(name, []).extend(each["seconds"] for each in seeds if "seconds" in each)
        rows += [[family, name, sum(each) / len(each), len(each)] for name, each in seconds.items() if each]
    return Table(f"{data}: seconds", ["kind", "method", "seconds", "models"], rows, note=prose(__file__, "seconds"))


def spread(shares: Sequence[float | None]) -> str:
    """Mean over seeds in percent, with the lowest and the highest where there are several.

    Example:
        >>> spread([0.5]), spread([0.5, 0.6]), spread([None])
        ('50.0', '55.0 (50.0-60.0)', '')
    """
    told = [100 * each for each in shares if each is not None]
    if not told:
        return ""
    between = f" ({min(told):.1f}-{max(told):.1f})" if len(told) > 1 else ""
    return f"{sum(told) / len(told):.1f}{between}"


def _one(name: str) -> Callable[[Sequence[Figures], str], str]:
    return lambda seeds, attack: spread([each.get(name) for each in seeds])


def _area(seeds: Sequence[Figures], attack: str) -> str:
    areas = [each["auroc"] for each in seeds if each["auroc"] is not None]
    return f"{sum(areas) / len(areas):.3f}" if areas else ""


def _pair(first: str, second: str) -> Callable[[Sequence[Figures], str], str]:
    def cell(seeds: Sequence[Figures], attack: str) -> str:
        both = [spread([each[name] for each in seeds]) for name in (first, second)]
        return " / ".join(each or "none" for each in both)

    return cell


def _classes(name: str, target: int) -> Callable[[Sequence[Figures], str], str]:
    """How often the target is flagged, and how many other classes are."""

    def cell(seeds: Sequence[Figures], attack: str) -> str:
        flagged = [each[name] for each in seeds]
        if any(each is None for each in flagged):
            return "no verdict"
        others = sum(sum(label != target or attack == NONE for label in each) for each in flagged)
        if attack == NONE:
            return f"{others} of no backdoor"
        hits = sum(target in each for each in flagged)
        return f"{hits} of {len(flagged)}{f', {others} others' if others else ''}"

    return cell
