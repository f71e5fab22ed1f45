"""MAP-Elites over classes (Mouret and Clune, 2015; Nguyen et al., 2015), and its direct encoding of images.

Polynomial mutation (Deb and Agrawal, 1995) of a pixel, u uniform in [0, 1), strength s:
x <- clamp(x + (2u)^(1/(s+1)) - 1)  if u < 1/2,   x <- clamp(x + 1 - (2 - 2u)^(1/(s+1)))  else
"""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.fooling.fooling import Fooling, Task

__all__ = ["FoolingEvolution", "MapElites", "Pixels"]


class MapElites(Fooling):
    """Keeps the best image of each class; children of all of them compete for every class.

    A generation is one batch: ``population`` parents are drawn from the elites, mutated, made into images and judged,
    and each class takes the child that the model is surest of, if it is surer than of the elite. Genomes are named
    tuples of tensors whose first dimension is the population. A subclass says how genomes are born, mutated and
    expressed.

    Args:
        generations: after the first.
        population: children of a generation.
        seed: of everything random.

    Raises:
        InputError: a number below 1.

    Example:
        >>> FoolingEvolution(generations=10).population
        200
    """

    def __init__(self, generations: int = 200, population: int = 200, seed: int = 0) -> None:
        super().__init__(seed)
        if generations < 1 or population < 1:
            raise InputError(f"generations and population must be at least 1, got {generations} and {population}")
        self.generations, self.population = generations, population

    @abstractmethod
    def born(self, task: Task, count: int) -> tuple[Tensor, ...]:
        """Genomes of the first generation, a named tuple."""

    @abstractmethod
    def mutated(self, task: Task, genomes: tuple[Tensor, ...], generation: int) -> tuple[Tensor, ...]:
        """One child of each genome."""

    @abstractmethod
    def expressed(self, task: Task, genomes: tuple[Tensor, ...]) -> Tensor:
        """Images [P, C, H, W] in [0, 1]."""

    def search(self, task: Task) -> tuple[Tensor, Tensor]:
        """The generations; the images of the elites and their confidences."""
        newborn = self.born(task, self.population)
        sure, who = task.confidences(self.expressed(task, newborn)).max(dim=0)  # [K]
        elites = _rows(newborn, who)
        task.note(0, sure)
        for generation in range(1, self.generations + 1):
            parents = (task.uniform(self.population) * len(task.classes)).long()
            children = self.mutated(task, _rows(elites, parents), generation)
            best, who = task.confidences(self.expressed(task, children)).max(dim=0)
            better = best > sure
            elites = _where(better, _rows(children, who), elites)
            sure = torch.where(better, best, sure)
            task.note(generation, sure)
        return self.expressed(task, elites), sure


class Pixels(NamedTuple):
    """The direct encoding: the image itself [P, C, H, W].

    Example:
        >>> Pixels(torch.rand(2, 1, 4, 4)).image.shape
        torch.Size([2, 1, 4, 4])
    """

    image: Tensor


class FoolingEvolution(MapElites):
    """Direct encoding: every pixel is a gene, uniform at first, changed by polynomial mutation.

    Args:
        generations: after the first.
        population: children of a generation.
        rate: share of the pixels mutated in a child.
        halving: generations after which the rate halves.
        strength: s of the equation; the higher, the smaller the changes.
        seed: of everything random.

    Raises:
        InputError: a number out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> found = FoolingEvolution(generations=20, population=30)(model, (1, 4, 4))
        >>> found.medians[-1][1] > found.medians[0][1]
        True
    """

    def __init__(
        self,
        generations: int = 200,
        population: int = 200,
        rate: float = 0.1,
        halving: int = 1000,
        strength: float = 15.0,
        seed: int = 0,
    ) -> None:
        super().__init__(generations, population, seed)
        if not 0 < rate <= 1 or halving < 1 or strength < 0:
            raise InputError(
                f"rate must lie in (0, 1], halving be at least 1 and strength not negative, got {rate}, {halving} and "
                f"{strength}"
            )
        self.rate, self.halving, self.strength = rate, halving, strength

    def born(self, task: Task, count: int) -> Pixels:
        """Uniform noise."""
        return Pixels(task.uniform(count, *task.shape))

    def mutated(self, task: Task, genomes: Pixels, generation: int) -> Pixels:
        """The module's equation on a share of the pixels."""
        image = genomes.image
        chosen = task.uniform(*image.shape) < self.rate * 0.5 ** (generation // self.halving)
        u, power = task.uniform(*image.shape), 1 / (self.strength + 1)
        change = torch.where(u < 0.5, (2 * u) ** power - 1, 1 - (2 - 2 * u) ** power)
        return Pixels(torch.where(chosen, (image + change).clamp(0, 1), image))

    def expressed(self, task: Task, genomes: Pixels) -> Tensor:
        """The genome is the image."""
        return genomes.image


def _rows(genomes: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    return type(genomes)(*(part[rows] for part in genomes))


def _where(better: Tensor, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    pairs = zip(new, old, strict=True)
    return type(old)(*(torch.where(better.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in pairs))
