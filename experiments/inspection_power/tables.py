"""Tables and the picture of the page."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.inspection_power.nets import KINDS, Net
from experiments.inspection_power.rules import FALSE_ALARMS, RULES, Found, Judged, beside_references, judged
from experiments.page import prose
from lightning_adv.metrics.detection import roc_points
from lightning_adv.results.figures import COLOURS, HEIGHT, WIDTH, in_house_style, legend
from lightning_adv.results.result import Table

__all__ = [
    "CURVES",
    "Networks",
    "Scores",
    "all_judged",
    "curves",
    "networks_table",
    "of_another_kind",
    "rules_table",
    "scores_of",
    "shares",
    "taken",
    "taken_table",
    "total",
]

Networks = Mapping[Net, Found]
Counts = Mapping[tuple[str, str], tuple[int, int]]
"""Data and kind to networks flagged, and all."""

Scores = Mapping[str, Mapping[str, Mapping[Net, float]]]
"""Rule to kind to network to score."""

CURVES = 5
"""Rules in the picture."""


def scores_of(networks: Networks) -> Scores:
    """Every rule's score of every network but the references."""
    references, scores = _references(networks), {}
    for rule, score in RULES.items():
        for net, found in networks.items():
            if net.kind != "reference":
                scores.setdefault(rule, {}).setdefault(net.kind, {})[net] = score(found, references[net.data])
    return scores


def _references(networks: Networks) -> dict[str, list[Found]]:
    """Of each data set."""
    kept: dict[str, list[Found]] = {net.data: [] for net in networks}
    for net, found in networks.items():
        if net.kind == "reference":
            kept[net.data].append(found)
    return kept


def all_judged(scores: Scores) -> list[Judged]:
    """All rules, the best on the half that thresholds are chosen on first."""
    rules = [judged(rule, each) for rule, each in scores.items()]
    return sorted(rules, key=lambda each: (-each.chosen_power, -each.chosen_area))


def networks_table(networks: Networks) -> Table:
    """How many networks of each kind, and what they can do."""
    rows = []
    for data, kind in dict.fromkeys((net.data, net.kind) for net in networks):
        facts = [found["facts"] for net, found in networks.items() if (net.data, net.kind) == (data, kind)]
        success = [each["attack_success"] for each in facts if each["attack_success"] is not None]
        accuracy = [each["accuracy"] for each in facts]
        told = (float(np.mean(success)), min(success)) if success else (None, None)
        rows.append([data, kind, len(facts), float(np.mean(accuracy)), *told])
    columns = ["data", "kind", "networks", "accuracy", "attack success", "least attack success"]
    return Table("Networks", columns, rows, percent=tuple(columns[3:]))


def rules_table(rules: Sequence[Judged]) -> Table:
    """What every rule is worth."""
    kinds = list(rules[0].caught)
    rows = [
        [
            each.rule,
            each.threshold,
            each.chosen_power,
            _of(each.false_alarms),
            *map(_of, each.caught.values()),
            each.area,
        ]
        for each in rules
    ]
    columns = ["rule", "threshold", "power, chosen", "false alarms", *kinds, "ROC area"]
    note = (
        f"Thresholds: of the even networks' clean ones at most {FALSE_ALARMS:.0%} lie above; *power, chosen*: of their "
        "backdoored ones. All to the right of it: of the odd networks, on which nothing was chosen."
    )
    return Table("Rules", columns, rows, percent=("power, chosen",), note=note)


def taken(networks: Networks, counted: Collection[Net] | None = None) -> Counts:
    """Data and kind to networks that the second look flags at its own level, and all.

    Args:
        networks: with references.
        counted: those of the others that count; default all.
    """
    references, counts = _references(networks), {}
    for net, found in networks.items():
        if net.kind != "reference" and (counted is None or net in counted):
            flagged, every = counts.get((net.data, net.kind), (0, 0))
            look = beside_references(found, references[net.data])
            counts[net.data, net.kind] = flagged + bool(look.flagged), every + 1
    return counts


def of_another_kind(networks: Networks) -> dict[str, tuple[int, int]]:
    """Data to clean networks whose references the second look says are of another kind, and all clean ones."""
    references = _references(networks)
    counts: dict[str, tuple[int, int]] = {}
    for net, found in networks.items():
        if net.kind == "clean":
            unlike, every = counts.get(net.data, (0, 0))
            counts[net.data] = unlike + (not beside_references(found, references[net.data]).comparable), every + 1
    return counts


def total(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Sums of both.

    Example:
        >>> total([(1, 2), (3, 3)])
        (4, 5)
    """
    flagged, every = zip((0, 0), *counts, strict=True)
    return sum(flagged), sum(every)


def shares(counts: Counts, kinds: Collection[str]) -> str:
    """Of all data sets together, in words.

    Example:
        >>> shares({("MNIST", "clean"): (1, 2), ("GTSRB", "clean"): (3, 3), ("MNIST", "sig"): (1, 1)}, {"clean"})
        '4 of 5'
    """
    return _of(total(each for (_, kind), each in counts.items() if kind in kinds))


def taken_table(which: str, counts: Counts) -> Table:
    """Networks that the second look flags; ``which`` is "settled" or "fresh"."""
    kinds = [each for each in KINDS if each in {kind for _, kind in counts}]
    sets = list(dict.fromkeys(data for data, _ in counts))
    rows = [[data, *(_of(counts[data, kind]) if (data, kind) in counts else None for kind in kinds)] for data in sets]
    title = f"Second look, {which} networks: flagged"
    return Table(title, ["data", *kinds], rows, note=prose(__file__, f"Second look, {which}"))


@in_house_style
def curves(rules: Sequence[Judged], scores: Scores) -> Figure:
    """ROC curves of the first rules, on the odd networks."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes, lines = figure.add_subplot(), {}
    for colour, rule in zip(COLOURS, rules[:CURVES], strict=False):
        odd = {
            kind: torch.tensor([s for net, s in each.items() if net.number % 2])
            for kind, each in scores[rule.rule].items()
        }
        backdoored = torch.cat([each for kind, each in odd.items() if kind != "clean"])
        points = roc_points(odd["clean"], backdoored)
        (lines[rule.rule],) = axes.plot(*zip(*points, strict=True), color=colour)
    axes.set(xlabel="clean networks flagged", ylabel="backdoored networks flagged", ylim=(-0.02, 1.02))
    legend(figure, lines)
    return figure


def _of(counts: tuple[int, int]) -> str:
    return f"{counts[0]} of {counts[1]}"
