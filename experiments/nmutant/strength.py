"""What an attack's strength does to its samples: how far they go beyond the boundary, and their label change rates."""

from functools import partial

import torch
from torch import nn

from experiments.networks import all_logits, all_predicted
from experiments.nmutant.cells import Cells, split
from experiments.nmutant.samples import Samples, Setting, attacked
from lightning_adv.attacks import Attack
from lightning_adv.detectors import LabelChangeRate, Mutation

__all__ = ["MUTATIONS", "strengths"]

MUTATIONS = 100
"""Of each sample."""


def strengths(
    cells: Cells, setting: Setting, operator: str, mutation: Mutation, model: nn.Module, count: int
) -> dict[str, dict]:
    """By attack: how far its samples are from the images and beyond the boundary, and their label change rates."""
    normal = cells.samples["normal"].first(count)
    detector = LabelChangeRate(mutation, mutations=MUTATIONS)
    data = (normal.image, all_predicted(model, normal.image), normal.index)

    def measured(attack: Attack | None) -> dict:
        image, index = (normal.image, normal.index)
        if attack is not None:
            image, index = attacked(model, attack, data, torch.arange(len(index)), len(index))
        clean = normal.image[torch.searchsorted(normal.index, index)]
        top = all_logits(model, image).topk(2).values
        rates = torch.cat([detector.measures(model, x, index=i) for x, i in split(Samples(image, index))])
        return {
            "distance": (image - clean).flatten(1).norm(dim=1).mean().item(),
            "margin": (top[:, 0] - top[:, 1]).mean().item(),
            "rates": rates[:, 0].tolist(),
        }

    attacks = {"normal": None, **setting.strengths()}
    return {
        name: cells.kept.figures(f"strength {operator} {name}", partial(measured, attack), f"{attack!r}, {detector!r}")
        for name, attack in attacks.items()
    }
