"""Fooling images drawn by compositional pattern-producing networks (Stanley, 2007; Nguyen et al., 2015).

pixel(x, y) = network(x, y, distance from the centre, 1); nodes are sines, sigmoids, Gaussians and lines.
The networks grow as in NEAT (Stanley and Miikkulainen, 2002): weights change, links and nodes are added.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.fooling.evolution import MapElites
from lightning_adv.fooling.fooling import Task

__all__ = ["CPPNGenomes", "FoolingCPPN"]

INPUTS = 4
"""x, y, distance from the centre, and 1."""

FUNCTIONS = 4
"""Sine, sigmoid, Gaussian, linear."""

FIRST_WEIGHT, WEIGHT_STEP = 2.0, 0.5
"""Deviations of a new weight and of a change."""


class CPPNGenomes(NamedTuple):
    """P networks of at most M nodes: inputs first, then outputs, then hidden nodes in the order of their birth.

    Args:
        depth: [P, M] 0 for inputs, 1 for outputs, between for hidden nodes, infinite for a slot that is free.
        weight: [P, M, M] of the link to (row) a node from (column) one of smaller depth; 0 is no link.
        function: [P, M] number of the node's function.

    Example:
        >>> CPPNGenomes(torch.zeros(2, 6), torch.zeros(2, 6, 6), torch.zeros(2, 6)).weight.shape
        torch.Size([2, 6, 6])
    """

    depth: Tensor
    weight: Tensor
    function: Tensor


class FoolingCPPN(MapElites):
    """Indirect encoding: small networks draw the image, whose patterns are regular for that reason.

    Args:
        generations: after the first.
        population: children of a generation.
        hidden: most hidden nodes that a network grows.
        add_node, add_link: chances that a child gets one more.
        change_function: chance that a node of a child gets another function.
        change_weights: share of the links of a child whose weights move.
        seed: of everything random.

    Raises:
        InputError: a number out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> found = FoolingCPPN(generations=20, population=30)(model, (1, 4, 4))
        >>> found.medians[-1][1] > found.medians[0][1]
        True
    """

    def __init__(
        self,
        generations: int = 200,
        population: int = 200,
        hidden: int = 20,
        add_node: float = 0.2,
        add_link: float = 0.2,
        change_function: float = 0.1,
        change_weights: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(generations, population, seed)
        chances = (add_node, add_link, change_function, change_weights)
        if hidden < 0 or not all(0 <= chance <= 1 for chance in chances):
            raise InputError(f"hidden must not be negative and chances lie in [0, 1], got {hidden} and {chances}")
        self.hidden, self.add_node, self.add_link = hidden, add_node, add_link
        self.change_function, self.change_weights = change_function, change_weights

    def born(self, task: Task, count: int) -> CPPNGenomes:
        """Every output is linked to every input; no hidden node."""
        outputs = task.shape[0]
        nodes = INPUTS + outputs + self.hidden
        depth = torch.full((count, nodes), torch.inf, device=task.device)
        depth[:, :INPUTS], depth[:, INPUTS : INPUTS + outputs] = 0, 1
        weight = torch.zeros(count, nodes, nodes, device=task.device)
        weight[:, INPUTS : INPUTS + outputs, :INPUTS] = FIRST_WEIGHT * task.normal(count, outputs, INPUTS)
        return CPPNGenomes(depth, weight, self._functions(task, count, nodes))

    def mutated(self, task: Task, genomes: CPPNGenomes, generation: int) -> CPPNGenomes:
        """Moved weights, and by chance a link, a node and another function."""
        count, nodes = genomes.depth.shape
        depth, weight, function = (part.clone() for part in genomes)
        moves = (weight != 0) & (task.uniform(*weight.shape) < self.change_weights)
        weight = torch.where(moves, weight + WEIGHT_STEP * task.normal(*weight.shape), weight)
        self._link(task, depth, weight)
        self._split(task, depth, weight)
        other = task.uniform(count, nodes) < self.change_function / nodes
        return CPPNGenomes(depth, weight, torch.where(other, self._functions(task, count, nodes), function))

    def expressed(self, task: Task, genomes: CPPNGenomes) -> Tensor:
        """The pixels, node by node in the order of depth; [P, C, H, W]."""
        channels, height, width = task.shape
        depth, weight, function = genomes
        count, nodes = depth.shape
        values = torch.zeros(count, nodes, height * width, device=task.device)
        values[:, :INPUTS] = _coordinates(height, width).to(task.device)
        every = torch.arange(count, device=task.device)
        order = depth[:, INPUTS:].argsort(dim=1, stable=True) + INPUTS
        for place in range(int(depth.isfinite().sum(dim=1).amax()) - INPUTS):
            node = order[:, place]
            total = torch.bmm(weight[every, node][:, None], values)[:, 0]  # [P, H W]
            values[every, node] = _applied(function[every, node], total)
        drawn = values[:, INPUTS : INPUTS + channels].view(count, channels, height, width)
        return 0.5 + 0.5 * drawn.tanh()

    def _functions(self, task: Task, count: int, nodes: int) -> Tensor:
        return (task.uniform(count, nodes) * FUNCTIONS).long()

    def _link(self, task: Task, depth: Tensor, weight: Tensor) -> None:
        """Give some genomes one more link, in place."""
        open_ = (depth[:, :, None] > depth[:, None, :]) & depth.isfinite()[:, :, None] & (weight == 0)
        chosen, exists = _one_of(task, open_.flatten(1))
        rows = (exists & (task.uniform(len(depth)) < self.add_link)).nonzero().flatten()
        weight.flatten(1)[rows, chosen[rows]] = FIRST_WEIGHT * task.normal(len(rows))

    def _split(self, task: Task, depth: Tensor, weight: Tensor) -> None:
        """Put a node on one link of some genomes, in place: the link to it weighs 1, that from it what it weighed."""
        free, nodes = depth.isinf(), depth.shape[1]
        chosen, exists = _one_of(task, (weight != 0).flatten(1))
        able = exists & free.any(dim=1) & (task.uniform(len(depth)) < self.add_node)
        rows = able.nonzero().flatten()
        to, source, new = chosen[rows] // nodes, chosen[rows] % nodes, free.long().argmax(dim=1)[rows]
        depth[rows, new] = (depth[rows, to] + depth[rows, source]) / 2
        weight[rows, new, source] = 1.0
        weight[rows, to, new] = weight[rows, to, source]
        weight[rows, to, source] = 0.0


def _one_of(task: Task, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """A random allowed position of each row [P, N], and whether there is one."""
    return torch.where(allowed, task.uniform(*allowed.shape), -1.0).argmax(dim=1), allowed.any(dim=1)


def _coordinates(height: int, width: int) -> Tensor:
    """[4, H W]: x and y in [-1, 1], distance from the centre, 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([x, y, (x.square() + y.square()).sqrt(), torch.ones_like(x)]).flatten(1)


def _applied(function: Tensor, total: Tensor) -> Tensor:
    """Each row's function of its sums [P, H W]."""
    sine, bell = (math.pi * total).sin(), (-total.square()).exp()
    which = function[:, None]
    return torch.where(which == 0, sine, torch.where(which == 1, total.sigmoid(), torch.where(which == 2, bell, total)))
