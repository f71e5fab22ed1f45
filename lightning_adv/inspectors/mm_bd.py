"""MM-BD, maximum margin backdoor detection (Wang et al., 2024): no clean images, and no model of the trigger.

    margin_k = max over x in [0, 1] of   f_k(x) - max_{j != k} f_j(x)

A class that a trigger opens has a logit that nothing else of the images holds back: its largest margin is far above
those of the other classes, whatever the trigger looks like.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.inspectors.inspector import Inspector
from lightning_adv.inspectors.largest import FEWEST, find_largest
from lightning_adv.inspectors.outliers import Outliers
from lightning_adv.inspectors.report import ClassTrigger, Status
from lightning_adv.inspectors.suspect import CleanImages, Suspect, fitting

__all__ = ["MMBD"]


class MMBD(Inspector):
    """Looks for the largest margin of each class by gradient ascent from noise, and flags a class whose is too large.

    Of the clean images it takes the size alone. Images are clamped to [0, 1] on their way into the model. The ascent of
    a class ends after ``steps``, or as soon as the sum of its margins changes by less than ``tolerance`` of itself. A
    reported pattern is the image of the largest margin, its mask all of it; it is no trigger. Models that were trained
    adversarially have margins that differ by nature.

    Args:
        starts: images, uniform in [0, 1], that the ascent of a class begins with; the largest margin counts.
        steps: most steps of the ascent.
        lr: of gradient ascent, in pixels a unit of the gradient.
        momentum: of the same.
        tolerance: relative change of the sum of the margins that ends the ascent.
        alarm: p-value of the paper's rule, below which the class of the largest margin is flagged.
        **shared: see ``Inspector``; ``threshold`` is without meaning.

    Raises:
        InputError: numbers that cannot be meant.

    Example:
        >>> backdoored = nn.Sequential(nn.Flatten(), nn.Linear(16, 6, bias=False))
        >>> _ = backdoored[1].weight.data.copy_(torch.diag(torch.tensor([1, 1.1, 9, 1.2, 0.9, 0.8])) @ torch.eye(6, 16))
        >>> MMBD(starts=4, steps=50, lr=0.1)(backdoored, torch.zeros(1, 1, 4, 4)).significant
        [2]
    """

    measure: ClassVar[str] = "margin"
    large: ClassVar[bool] = True

    def __init__(
        self,
        starts: int = 30,
        steps: int = 300,
        lr: float = 0.01,
        momentum: float = 0.2,
        tolerance: float = 1e-5,
        alarm: float = 0.05,
        **shared: float | bool,
    ) -> None:
        super().__init__(**shared)
        at_least_one(starts=starts, steps=steps)
        if lr <= 0 or not 0 <= momentum < 1 or tolerance < 0 or not 0 < alarm < 1:
            raise InputError(
                "MMBD needs lr above 0, momentum in [0, 1), tolerance not below 0 and alarm in (0, 1), "
                f"got {lr}, {momentum}, {tolerance} and {alarm}"
            )
        self.starts, self.steps, self.lr, self.momentum = starts, steps, lr, momentum
        self.tolerance, self.alarm = tolerance, alarm

    def check(self, label: Tensor | None, classes: int) -> list[str]:
        """A warning about too few classes; any images will do."""
        few = f"no verdict: of {classes} margins none can be told from the others, {FEWEST} are needed"
        return [few] if classes < FEWEST else []

    def rule(self, values: Sequence[float]) -> Outliers:
        """The paper's verdict, by a Gamma distribution, and the corrected one."""
        return find_largest(values, alpha=self.alpha, alarm=self.alarm)

    def reconstruct(self, suspect: Suspect, images: CleanImages, classes: Sequence[int]) -> list[ClassTrigger]:
        """The image of the largest margin for each class."""
        like = images.image[:1]
        at_once = max(1, fitting(like) // self.starts)
        groups = [classes[start : start + at_once] for start in range(0, len(classes), at_once)]
        return [found for group in groups for found in self._ascend(suspect, like, group)]

    def _ascend(self, suspect: Suspect, like: Tensor, classes: Sequence[int]) -> list[ClassTrigger]:
        label = torch.tensor(list(classes), device=like.device)
        x = SampleNoise(self.seed, label).uniform(like.new_empty(len(label), self.starts, *like.shape[1:]))
        velocity, before = torch.zeros_like(x), torch.full((len(label),), torch.nan, device=like.device)
        steps, climbing, cut = [0] * len(label), torch.arange(len(label), device=like.device), False
        for step in range(self.steps):
            cut = self.over(step / self.steps) >= 1
            if cut or not len(climbing):
                break
            margin, grad = _margin_and_gradient(suspect, x[climbing], label[climbing])
            velocity[climbing] = self.momentum * velocity[climbing] + grad
            x[climbing] += self.lr * velocity[climbing]
            total = margin.sum(dim=1)
            still = ((total - before[climbing]) / before[climbing]).abs() < self.tolerance
            before[climbing] = total
            for place in climbing.tolist():
                steps[place] = step + 1
            climbing = climbing[~still]
        with torch.no_grad():
            margin = _margins(suspect, x, label)  # [K, S]
        status: Status = "budget exhausted" if cut else "converged"
        return [self._found(*each, status) for each in zip(classes, x.clamp(0, 1), margin, steps, strict=True)]

    def _found(self, label: int, x: Tensor, margin: Tensor, steps: int, status: Status) -> ClassTrigger:
        known = margin.nan_to_num(-torch.inf)
        largest = float(known.max())
        finite = largest > -torch.inf
        image = x[known == largest][0].cpu()
        return ClassTrigger(
            label,
            torch.ones_like(image[:1]),
            image,
            largest if finite else float("nan"),
            float((margin > 0).double().mean()),
            status if finite else "diverged",
            steps,
        )


def _margins(suspect: Suspect, x: Tensor, label: Tensor) -> Tensor:
    """f_k - max_{j != k} f_j [K, S] of images [K, S, C, H, W], S for each class k of ``label`` [K]."""
    logits = suspect(x.clamp(0, 1).flatten(0, 1)).unflatten(0, x.shape[:2])
    own = F.one_hot(label, logits.shape[2]).bool()[:, None]  # [K, 1, classes]
    return logits.masked_fill(~own, 0).sum(dim=2) - logits.masked_fill(own, -torch.inf).amax(dim=2)


def _margin_and_gradient(suspect: Suspect, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_(True)
    margin = _margins(suspect, leaf, label)
    (grad,) = torch.autograd.grad(margin.sum(), leaf)
    return margin.detach(), grad.nan_to_num(0.0)
