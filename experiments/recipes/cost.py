"""What a training step of a recipe costs beside the passes that its paper cannot do without."""

from functools import partial

import torch
from torch import Tensor, nn

from experiments.cost import Counted, in_turn, ratio, seconds
from experiments.recipes.studies import Recipe
from lightning_adv.data import ImageDataModule
from lightning_adv.objectives import FreeAdversarialTraining
from lightning_adv.objectives.awp import innermost
from lightning_adv.results.result import Cell

__all__ = ["cost_of_a_step"]


def cost_of_a_step(net: nn.Module, recipe: Recipe, data: ImageDataModule) -> list[Cell]:
    """Forwards and backwards an image and step, their sum over the floor, and the time over that of the floor."""
    x = torch.rand(128, data.in_channels, *data.image_size, generator=torch.Generator().manual_seed(0))
    y = torch.arange(128) % data.num_classes
    objective, counted = recipe.objective(), Counted(net)
    counted.train()
    free = isinstance(objective, FreeAdversarialTraining)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.0)

    def step(net: nn.Module = net) -> None:
        for _ in range(objective.replays if free else 1):
            loss, _ = objective(net, x, y)
            _descend(optimizer, loss)
            if free:
                objective.after_backward()

    def floor() -> None:
        attacks = _attack_steps(recipe)
        net.requires_grad_(False)
        for _ in range(attacks):
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(nn.functional.cross_entropy(net(leaf), y), leaf)
        net.requires_grad_(True)
        with torch.no_grad():
            for _ in range(recipe.forwards - recipe.backwards):
                net(x)
        rounds = objective.replays if free else 1
        for _ in range(rounds):
            leaf = x.clone().requires_grad_(free)
            losses = (recipe.backwards - attacks) // rounds
            _descend(optimizer, sum(nn.functional.cross_entropy(net(leaf), y) for _ in range(losses)))

    objective.at_epoch(100.0)  # past every warm-up
    step(counted)
    passes = [counted.forwards / len(x), counted.backwards / len(x)]
    taken = in_turn({"step": partial(seconds, step), "floor": partial(seconds, floor)}, 9)
    over = ratio(taken["step"], taken["floor"])
    return [*passes, sum(passes) / (recipe.forwards + recipe.backwards), over]


def _attack_steps(recipe: Recipe) -> int:
    """Backwards of a step that go to the images only."""
    return getattr(getattr(innermost(recipe.objective()), "attack", None), "steps", 0)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
