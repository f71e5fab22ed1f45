"""What the share of a network's adversarial images that transfer hangs on: the budget, and how much it has learnt."""

from torch import Tensor

from experiments.kept import Kept
from experiments.networks import Images, attacked, error, network
from experiments.page import prose
from lightning_adv.attacks import FGSM
from lightning_adv.results.result import Cell, Table

__all__ = ["by_budget"]

BUDGETS = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
LEARNT = (1000, 5000, 25_000)
STEPS = 80_000
"""Images of a training, times epochs; the largest sees its own eight times."""


def by_budget(learnt: Images, tested: Images, kept: Kept, quick: bool) -> Table:
    """Error of two networks on each other's FGSM images, and on their own.

    Args:
        learnt: images and labels, of which each network takes a part of its own.
        tested: images and labels that are attacked.
        kept: where figures go.
        quick: the smallest networks alone.
    """
    rows: list[list[Cell]] = []
    for size in LEARNT[:1] if quick else LEARNT:
        figures = kept.figures(f"budgets {size}", lambda size=size: _measured(learnt, tested, size))
        for whose in ("itself", "the other"):
            rows.append([f"{size:,}", whose, figures["clean"], *(figures[f"{eps} {whose}"] for eps in BUDGETS)])
    shares = ["clean", *(f"eps {eps}" for eps in BUDGETS)]
    title = "What the figure of a network hangs on"
    return Table(
        title, ["learnt from", "crafted on", *shares], rows, percent=tuple(shares), note=prose(__file__, title)
    )


def _measured(learnt: Images, tested: Images, size: int) -> dict[str, float]:
    """Means of the two networks."""
    (x, y), (images, labels) = learnt, tested
    epochs = max(8, STEPS // size)
    two = [network(part, label, epochs, seed) for seed, (part, label) in enumerate(_two_parts(x, y, size))]
    found = {"clean": sum(error(each, images, labels) for each in two) / 2}
    for eps in BUDGETS:
        crafted = [attacked(FGSM(eps), source, images, labels, 250) for source in two]
        for whose, order in (("itself", crafted), ("the other", crafted[::-1])):
            found[f"{eps} {whose}"] = sum(error(*pair, labels) for pair in zip(two, order, strict=True)) / 2
    return found


def _two_parts(x: Tensor, y: Tensor, size: int) -> list[Images]:
    return [(x[begin : begin + size], y[begin : begin + size]) for begin in (0, size)]
