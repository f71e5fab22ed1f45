"""BTI-DBF (Xu et al., 2024): a generator of triggers that spares what the model knows of clean images.

    minimise over m   CE( h(m f(x)), y ) - CE( h((1 - m) f(x)), y ),    m in [0, 1]^D
    maximise over G   | (1 - m) (f(G(x)) - f(x)) |^2   while   |G(x) - x|^2 and | m (f(G(x)) - f(x)) |^2 stay small

f are the features before the last layer h; the mask m finds the benign ones, without which clean images are lost. What
moves the others alone is what a backdoor listens to. G changes images in any way, so that it finds warps and blends,
too: most generated images go to the class that the backdoor leads to.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import NO_CLASS, predicted
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.inspectors.inspector import Inspector
from lightning_adv.inspectors.largest import find_largest
from lightning_adv.inspectors.outliers import Outliers
from lightning_adv.inspectors.report import ClassTrigger, Status
from lightning_adv.inspectors.suspect import CleanImages, Suspect, fitting, shuffled_minibatches

__all__ = ["BTIDBF"]

START = 1e-2
"""Largest change of a pixel, more or less, by the generator as it starts: next to the identity, where nothing moves."""


class BTIDBF(Inspector):
    """Trains one generator, and flags the class that most of the images it makes go to.

    A class is judged by its share: of the clean images that the model gives another class, those that it gives this one
    once they are generated. The paper names the class of the largest share for every model; here it is flagged if that
    is above ``majority``. The corrected verdict also asks for a share that stands out among those of the other classes.
    The model needs a last layer that is linear, and stays in eval mode throughout. What the paper presumes does not
    always hold: a trigger that raises the very features by which clean images of its class are known moves what the
    mask protects, and is not found, as on the small networks for digits of this project. Where clean images need all
    features, as in a narrow network of 64, the mask covers them all and nothing is left for the generator to move.

    Args:
        mask_steps: of Adam, for the mask; it takes the features of all images, which are computed once.
        steps: of Adam, for the generator.
        batch_size: images of a step of the generator.
        mask_lr, lr: of Adam.
        bound: mean squared change of a pixel of [0, 1] from which on a step makes it smaller and nothing else.
        feature_bound: change of the benign features, as a share of their mean square, from which on the same holds.
        width: channels of the generator.
        majority: share of the images that flags a class.
        **shared: see ``Inspector``.

    Raises:
        InputError: numbers that cannot be meant; when used, images without labels, a last layer that is not linear.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
        >>> clean = [(torch.rand(8, 1, 4, 4), torch.arange(8) % 4)]
        >>> len(BTIDBF(steps=2, mask_steps=2, width=2)(model, clean).norms)
        4
    """

    joint: ClassVar[bool] = True
    measure: ClassVar[str] = "share"
    large: ClassVar[bool] = True

    def __init__(
        self,
        mask_steps: int = 200,
        steps: int = 300,
        batch_size: int = 64,
        mask_lr: float = 0.05,
        lr: float = 2e-3,
        bound: float = 0.02,
        feature_bound: float = 0.1,
        width: int = 16,
        majority: float = 0.5,
        **shared: float | bool,
    ) -> None:
        super().__init__(**shared)
        at_least_one(mask_steps=mask_steps, steps=steps, batch_size=batch_size, width=width)
        if min(mask_lr, lr, bound, feature_bound) <= 0 or not 0 < majority < 1:
            raise InputError(
                "BTIDBF needs mask_lr, lr, bound and feature_bound above 0 and majority in (0, 1), "
                f"got {mask_lr}, {lr}, {bound}, {feature_bound} and {majority}"
            )
        self.mask_steps, self.steps, self.batch_size, self.width = mask_steps, steps, batch_size, width
        self.mask_lr, self.lr, self.bound, self.feature_bound = mask_lr, lr, bound, feature_bound
        self.majority = majority

    def rule(self, values: Sequence[float]) -> Outliers:
        """The share of the majority, and beside it one that stands out."""
        found = find_largest(values, alpha=self.alpha)
        if not found.judged:
            return found
        many = tuple(place for place, share in enumerate(values) if share > self.majority)
        significant = tuple(place for place in found.significant if place in many)
        # Shares of a few in a hundred differ by chance: the largest of them may stand out and is nothing.
        p_values = tuple(p if place in many or p != p else 1.0 for place, p in enumerate(found.p_values))
        largest = f"largest share {np.nanmax(values):.2f}"
        return replace(found, flagged=many, p_values=p_values, significant=significant, detail=largest)

    def reconstruct(self, suspect: Suspect, images: CleanImages, classes: Sequence[int]) -> list[ClassTrigger]:
        """Mask, generator, and where the generated images go."""
        x, features = images.image, _Features(suspect)
        with torch.no_grad():
            known, logits = (torch.cat(each) for each in zip(*map(features, x.split(fitting(x))), strict=True))
        named = predicted(logits) != NO_CLASS
        if not named.any():
            nothing = torch.zeros_like(x[0]).cpu()
            return [ClassTrigger(k, nothing[:1], nothing, float("nan"), 0.0, "diverged", 0) for k in classes]
        x, known, said = x[named], known[named], predicted(logits)[named]
        mask = self._benign(features.last, known, said if images.label is None else images.label[named])
        generator, steps = self._generator(features, x, known, mask)
        with torch.no_grad():
            made = torch.cat([generator(part) for part in x.split(fitting(x))])
            led = predicted(torch.cat([suspect.verdict(part) for part in made.split(fitting(x))]))
        return [self._found(label, made, said, led, steps) for label in classes]

    def _benign(self, last: nn.Linear, features: Tensor, label: Tensor) -> Tensor:
        """The mask [D] of what the last layer needs of clean images' features [N, D]."""
        theta = torch.zeros(features.shape[1], device=features.device, requires_grad=True)
        adam = torch.optim.Adam([theta], self.mask_lr)
        for _ in range(self.mask_steps):
            mask = theta.tanh() / 2 + 0.5
            kept, left = (F.cross_entropy(_answer(last, part * features), label) for part in (mask, 1 - mask))
            (theta.grad,) = torch.autograd.grad(kept - left, theta)
            adam.step()
        return (theta.tanh() / 2 + 0.5).detach()

    def _generator(self, features: "_Features", x: Tensor, known: Tensor, mask: Tensor) -> tuple[nn.Module, int]:
        """The generator, and the steps that it was trained for."""
        generator = _Generator(x.shape[1], self.width, torch.Generator().manual_seed(self.seed)).to(x.device)
        weights = list(generator.parameters())
        adam = torch.optim.Adam(weights, self.lr)
        scale = (mask * known).square().mean()
        numbers = shuffled_minibatches(torch.arange(len(x), device=x.device), min(self.batch_size, len(x)), self.seed)
        for step in range(self.steps):
            if self.over(step / self.steps) >= 1:
                return generator, step
            chosen = next(numbers)
            made = generator(x[chosen])
            moved = features(made)[0] - known[chosen]
            change = (made - x[chosen]).square().mean()
            benign = (mask * moved).square().mean() / scale
            backdoor = ((1 - mask) * moved).square().mean() / scale
            far = (change > self.bound) | (benign > self.feature_bound)
            loss = torch.where(far, change / self.bound + benign / self.feature_bound, -backdoor)
            for weight, grad in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = grad
            adam.step()
        return generator, self.steps

    def _found(self, label: int, made: Tensor, said: Tensor, led: Tensor, steps: int) -> ClassTrigger:
        others = said != label
        share = float((led[others] == label).double().mean()) if others.any() else float("nan")
        turned = (others & (led == label)).nonzero().flatten()
        image = made[turned[0] if len(turned) else 0].cpu()
        ended: Status = "converged" if steps == self.steps else "budget exhausted"
        known = share == share
        rate = share if known else 0.0
        return ClassTrigger(
            label, torch.ones_like(image[:1]), image, share, rate, ended if known else "diverged", steps
        )


def _answer(last: nn.Linear, features: Tensor) -> Tensor:
    return F.linear(features, last.weight.float(), None if last.bias is None else last.bias.float())


class _Features:
    """Features before the last layer of a model, and its logits.

    Args:
        suspect: a model whose last layer is linear.

    Raises:
        InputError: it is no module, or has no such layer; in a call, that layer does not make the logits.
    """

    def __init__(self, suspect: Suspect) -> None:
        self.suspect = suspect
        layers = list(suspect.model.modules()) if isinstance(suspect.model, nn.Module) else []
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        if not linear:
            raise InputError("BTIDBF looks before the last linear layer, and the model has none: use MMBD")
        self.last = linear[-1]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, D] and [N, K]."""
        passed: list[Tensor] = []
        hook = self.last.register_forward_pre_hook(lambda _, given: passed.append(given[0]))
        try:
            # A compiled module would not see hooks that came after it was compiled.
            with torch.compiler.set_stance("force_eager"):
                logits = self.suspect(x)
        finally:
            hook.remove()
        if len(passed) != 1 or passed[0].shape[:-1] != (len(x),) or logits.shape[1] != self.last.out_features:
            raise InputError("BTIDBF needs a model whose last linear layer makes the logits: use MMBD")
        return passed[0].float(), logits


class _Generator(nn.Module):
    """x to x + r(x), r a small U-Net that starts near 0.

    Args:
        channels: of the images.
        width: channels of the finer of two scales.
        random: of the weights.
    """

    def __init__(self, channels: int, width: int, random: torch.Generator) -> None:
        super().__init__()
        self.fine = nn.Conv2d(channels, width, 3, padding=1)
        self.coarse = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.last = nn.Conv2d(3 * width, channels, 3, padding=1)
        for layer in (self.fine, self.coarse, self.middle, self.last):
            nn.init.kaiming_normal_(layer.weight, generator=random)
            nn.init.zeros_(layer.bias)
        self.last.weight.data *= START

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.fine(x))
        coarse = F.relu(self.middle(F.relu(self.coarse(fine))))
        both = torch.cat([fine, F.interpolate(coarse, x.shape[2:])], dim=1)
        return (x + self.last(both).tanh()).clamp(0, 1)
