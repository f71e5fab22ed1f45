"""Goodfellow's adversarial objective beside clean training and weight decay, and confidence by kernel densities.

``python -m experiments.adversarial_objective --root data``: resumable, every network is kept under ``--run``.
"""

import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.command import arguments, command, show
from experiments.networks import Images, all_logits, all_predicted, attacked, images_of, kept_network, network
from experiments.page import Page, prose
from lightning_adv.asking import confident
from lightning_adv.attacks import FGSM, PGD
from lightning_adv.data import MNIST
from lightning_adv.detectors import KDEConfidence
from lightning_adv.metrics.detection import auroc
from lightning_adv.objectives import AdversarialTraining
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

EPS = 0.25
"""Of the paper's figures for MNIST."""

HIGH = 0.9
"""Softmax probability from which on a prediction counts as confident."""


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Args:
        alpha: weight of the clean loss; 1 is clean training.
        weight_decay: of AdamW.
    """

    alpha: float = 1.0
    weight_decay: float = 0.0

    def train(self, x: Tensor, y: Tensor, epochs: int, seed: int) -> nn.Module:
        """The network, eval mode."""
        objective = None if self.alpha == 1 else AdversarialTraining(FGSM(EPS), clean_weight=self.alpha)
        return network(x, y, epochs, seed, objective, self.weight_decay)


RECIPES = {
    "clean": Recipe(),
    **{f"weight decay {decay:g}": Recipe(weight_decay=decay) for decay in (0.1, 1.0, 5.0)},
    **{f"adversarial objective, alpha {alpha:g}": Recipe(alpha) for alpha in (0.9, 0.75, 0.5, 0.25, 0.0)},
}


def main() -> None:
    """Train what is missing, measure, write the page."""
    quick = "learns from 5,000 images, once, and tests on 1,000"
    given = arguments(__doc__, run="runs/adversarial_objective", quick=quick).parse_args()
    page = Page("experiments.adversarial_objective", f"adversarial_objective{'_quick' * given.quick}", given.run)
    data = MNIST(root=given.root)
    data.setup()
    learnt, tested, seeds = (5_000, 1_000, 1) if given.quick else (20_000, 10_000, 3)
    train, held_out = images_of(data, "train", 0, learnt), images_of(data, "train", learnt, learnt + 2_000)
    test = images_of(data, "test", 0, tested)
    run = Path(given.run) / ("quick" if given.quick else "full")
    nets = {
        name: [kept_network(run, f"{name}-{seed}", partial(recipe.train, *train, 4, seed)) for seed in range(seeds)]
        for name, recipe in RECIPES.items()
    }
    tables = [_objectives(nets, test), _rejection(nets, train, held_out, test)]
    described = f"MNIST, {learnt:,} to train, 2,000 held out, {tested:,} to test"
    page.write(prose(__file__, learnt=learnt, seeds=seeds, tested=tested, eps=EPS), tables, described)


def _objectives(nets: dict[str, list[nn.Module]], test: Images) -> Table:
    rows: list[list[Cell]] = []
    for name, models in nets.items():
        figures = [_errors(model, test) for model in models]
        rows.append([name, *(statistics.mean(column) for column in zip(*figures, strict=True))])
        show(rows[-1])
    columns = ["training", "clean error", "FGSM error", "confidence where FGSM fools", "PGD-40 error"]
    return Table("The objective", columns, rows, percent=tuple(columns[1:]))


def _errors(model: nn.Module, test: Images) -> list[float]:
    x, y = test
    fgsm, confidence = confident(all_logits(model, attacked(FGSM(EPS), model, x, y, 500)))
    few, label = x[:1000], y[:1000]
    pgd = all_predicted(model, attacked(PGD(EPS, EPS / 10, steps=40), model, few, label, 500))
    wrong = fgsm != y
    shares = [(all_predicted(model, x) != y).float(), wrong.float(), confidence[wrong], (pgd != label).float()]
    return [share.mean().item() for share in shares]


def _rejection(nets: dict[str, list[nn.Module]], train: Images, held_out: Images, test: Images) -> Table:
    """What KDE confidence rejects among the FGSM images that fool a network confidently."""
    rows: list[list[Cell]] = []
    for training in ("clean", "adversarial objective, alpha 0.5"):
        model = nets[training][0]
        label, confidence = confident(all_logits(model, fooled := attacked(FGSM(EPS), model, *test, 500)))
        fooled = fooled[(label != test[1]) & (confidence > HIGH)]
        for kept in (0.68, 0.72, 0.95):
            detector = KDEConfidence(variance_kept=kept).fit(model, [train])
            normal = detector.clean_scores(model, [test])
            scores = torch.cat([detector.score(model, part) for part in fooled.split(500)]) if len(fooled) else None
            unsure = [None if scores is None else (scores > 1 - HIGH).float().mean().item()]
            shares: list[Cell] = [*unsure, (normal > 1 - HIGH).float().mean().item()]
            for rate in (0.01, 0.05, 0.1):
                detector.calibrate(model, [held_out], false_positive_rate=rate)
                rejected = (normal > detector.threshold).float().mean().item()
                shares += [None if scores is None else (scores > detector.threshold).float().mean().item(), rejected]
            area = None if scores is None else auroc(normal, scores)
            rows.append([training, len(fooled), detector.variance, detector.components, area, *shares])
            show(rows[-1])
    rates = [f"{what} at {rate} %" for rate in (1, 5, 10) for what in ("rejected", "clean rejected")]
    rates = ["no longer confident", "clean no longer confident", *rates]
    columns = ["training", "confidently fooled", "variance kept", "components", "AUROC", *rates]
    title = "Rejection by kernel densities"
    return Table(title, columns, rows, percent=("variance kept", *rates), note=prose(__file__, title, high=HIGH))


if __name__ == "__main__":
    command(main)
