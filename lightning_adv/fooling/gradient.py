"""Fooling images by gradient ascent from noise (Simonyan et al., 2014; Nguyen et al., 2015, section 2.5).

x <- clamp( (1 - decay) x + step_size g / ||g||_2 ),   g = grad_x log p(class | x)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.asking import logits_of
from lightning_adv.errors import InputError
from lightning_adv.fooling.fooling import Fooling, Task

__all__ = ["FoolingGradient"]


class FoolingGradient(Fooling):
    """Raises the log-probability of every class from noise, under L2 decay; all classes are one batch.

    The most confident image of each class on the way is kept.

    Args:
        steps: of ascent.
        step_size: L2 length of a step, in pixel units of [0, 1].
        decay: of the pixels towards black in each step.
        noise: the first image is uniform in [0, noise].
        seed: of the noise.

    Raises:
        InputError: a number out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> found = FoolingGradient(steps=20)(model, (1, 4, 4))
        >>> found.medians[-1][1] > found.medians[0][1]
        True
    """

    def __init__(
        self, steps: int = 200, step_size: float = 0.5, decay: float = 0.01, noise: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__(seed)
        if steps < 1 or step_size <= 0 or not 0 <= decay < 1 or not 0 < noise <= 1:
            raise InputError(
                "steps must be at least 1, step_size positive, decay in [0, 1) and noise in (0, 1], "
                f"got {steps}, {step_size}, {decay} and {noise}"
            )
        self.steps, self.step_size, self.decay, self.noise = steps, step_size, decay, noise

    def search(self, task: Task) -> tuple[Tensor, Tensor]:
        """The loop of the module's equation."""
        x = self.noise * task.uniform(len(task.classes), *task.shape)
        best, sure = x, task.confidences(x).diagonal()
        task.note(0, sure)
        for step in range(1, self.steps + 1):
            leaf = x.detach().requires_grad_(True)
            log_share = -F.cross_entropy(logits_of(task.model, leaf), task.classes, reduction="sum")
            grad = torch.autograd.grad(log_share, leaf)[0].nan_to_num(nan=0.0)
            length = grad.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
            x = ((1 - self.decay) * x + self.step_size * grad / length).clamp(0, 1)
            now = task.confidences(x).diagonal()
            best = torch.where((now > sure).view(-1, 1, 1, 1), x, best)
            sure = torch.maximum(now, sure)
            task.note(step, sure)
        return best, sure
