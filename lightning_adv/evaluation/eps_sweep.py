"""Robust accuracy over eps."""

from collections.abc import Iterable, Sequence

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import is_right
from lightning_adv.attacks import Attack
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.share import EvaluationBatch

__all__ = ["EpsSweep", "distance_curve", "median_distance"]

POINTS = 64
"""Points of a curve that is known at every eps."""


class EpsSweep:
    """The accuracy that several budgets of each attack leave, on a few images.

    An image that falls at one eps stays fallen at the larger ones (the balls are nested), so each budget is spent on
    the survivors of the one before.

    Args:
        attacks: name to attack; those without an eps are left out.
        budgets: radii in pixel units, read in the norm of each attack.
        samples: images over all ranks, a choice of those evaluated.

    Raises:
        InputError: a budget that is not positive, or no attack with an eps.
    """

    def __init__(self, attacks: dict[str, Attack], budgets: Sequence[Budget], samples: int) -> None:
        self.attacks = {name: attack for name, attack in attacks.items() if attack.eps}
        if not self.attacks:
            raise InputError(
                "eps_sweep needs an attack with an eps; a minimal-norm attack gives its curve without a sweep"
            )
        if samples < 1:
            raise InputError(f"sweep_samples must be at least 1, got {samples}")
        norms = {attack.norm for attack in self.attacks.values()}
        self.budgets = sorted({as_eps(budget, norm) for budget in budgets for norm in norms})
        if self.budgets[0] <= 0:
            raise InputError("eps_sweep starts above 0; the clean accuracy is the point at 0")
        self.max_samples = samples

    def run(self, model: LightningModule, images: Iterable[EvaluationBatch], judge: Judge) -> Tensor:
        """Count this rank's survivors of every budget, in the eyes of ``judge``.

        Returns:
            [attacks, 2 + budgets] int64: images, those correct without an attack, those correct at each budget.
        """
        counts = torch.zeros(len(self.attacks), 2 + len(self.budgets), dtype=torch.long, device=model.device)
        for batch in images:
            correct = is_right(judge(batch.image, batch.index), batch.label)
            counts[:, 0] += len(correct)
            for row, attack in zip(counts, self.attacks.values(), strict=True):
                self._descend(row, attack, model, judge, batch, correct.nonzero().flatten())
        return counts

    def curves(self, trainer: Trainer, counts: Tensor) -> tuple[dict[str, list[tuple[float, float]]], int]:
        """Name of the attack to points (eps, robust accuracy) from (0, clean accuracy) on; images behind each point.

        Over all ranks; every one of them calls it.
        """
        rows = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        curves = {
            name: [(eps, left / row[0]) for eps, left in zip([0.0, *self.budgets], row[1:], strict=True)]
            for name, row in zip(self.attacks, rows, strict=True)
        }
        return curves, rows[0][0]

    def _descend(
        self, row: Tensor, attack: Attack, model: LightningModule, judge: Judge, batch: EvaluationBatch, left: Tensor
    ) -> None:
        row[1] += len(left)
        for column, eps in enumerate(self.budgets, start=2):
            if not len(left):
                return
            scaled = attack.scaled(eps / attack.eps)
            result = scaled.run(model, batch.image[left], batch.label[left], index=batch.index[left])
            left = left[~judge.verdict(result, batch, left, attack.reaches).success]
            row[column] += len(left)


def distance_curve(distance: Tensor) -> list[tuple[float, float]]:
    """Robust accuracy over eps from one run of a minimal-norm attack: points (eps, accuracy) from eps 0 on.

    An image is correct at eps as long as its nearest misclassified neighbour is further away. The points are where
    images fall, at most 65 of them.

    Args:
        distance: [N] to that neighbour, 0 for an image that is wrong without an attack, infinity where none was found.
    """
    ordered = distance.sort().values
    falls = ordered[(ordered > 0) & ordered.isfinite()]
    chosen = falls if len(falls) <= POINTS else falls[torch.linspace(0, len(falls) - 1, POINTS).long()]
    return [(eps, float((distance > eps).double().mean())) for eps in [0.0, *chosen.tolist()]]


def median_distance(distance: Tensor) -> float | None:
    """Of the images [N] that were correct (distance above 0); None if most of them have no misclassified image near."""
    reached = distance[distance > 0]
    median = float(reached.median()) if len(reached) else torch.inf
    return median if median < torch.inf else None
