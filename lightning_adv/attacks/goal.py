"""What one call of an attack works towards, and the best it has found so far."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.trace import Classifier, forward_float32

__all__ = ["Goal"]

HALF_PRECISION_SCALE = 2.0**10
"""Keeps the gradients of a float16 backward pass away from zero; divided out again."""


class Goal:
    """Raise the loss of the labels, or lower that of explicit targets.

    An attack asks for gradients and logits here and nowhere else, so that precision, the sign of a targeted attack and
    the record of the best adversarial image live once.

    Args:
        model: images to logits, already safe to differentiate (see ``leaves_no_trace``).
        x: [N, C, H, W] clean images, float32 in [0, 1].
        y: [N] labels, or [N, K] probabilities (TRADES pushes away from the clean prediction).
        target: [N] classes to reach, or None for an untargeted attack.
        keep_best: remember each sample's best adversarial image, its logits and whether it succeeded.
    """

    def __init__(
        self, model: Classifier, x: Tensor, y: Tensor, target: Tensor | None = None, keep_best: bool = False
    ) -> None:
        self.model, self.x = model, x
        self.aim = y if target is None else target
        self.sign = 1.0 if target is None else -1.0
        self.keep_best = keep_best
        if keep_best:
            self.active = torch.arange(len(x), device=x.device)  # positions of the samples still pursued
            self.best = x.clone()
            self.best_loss = torch.full((len(x),), -torch.inf, device=x.device)
            self.best_logits: Tensor | None = None  # [N, K] once K is known
            self.success = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            self.zero_gradient = torch.zeros_like(self.success)

    def gradient(self, x_adv: Tensor) -> Tensor:
        """Gradient [N, C, H, W] of what the attacker raises, at ``x_adv``: one forward, one backward to the input."""
        x_adv = x_adv.detach().requires_grad_(True)
        logits = forward_float32(self.model, x_adv)
        loss = self._loss(logits)
        half = (
            torch.is_autocast_enabled(x_adv.device.type) and torch.get_autocast_dtype(x_adv.device.type) == torch.half
        )
        scale = HALF_PRECISION_SCALE if half else 1.0
        (grad,) = torch.autograd.grad(loss.sum() * scale, x_adv)
        grad = grad / scale if half else grad
        if self.keep_best:
            self.zero_gradient[self.active] |= (grad.flatten(1) == 0).all(dim=1)
            self._record(x_adv.detach(), logits.detach(), loss.detach())
        return grad

    def logits(self, x_adv: Tensor) -> Tensor:
        """Logits [N, K] at ``x_adv``, without a gradient: one forward."""
        with torch.no_grad():
            logits = forward_float32(self.model, x_adv)
            if self.keep_best:
                self._record(x_adv, logits, self._loss(logits))
        return logits

    def succeeded(self, logits: Tensor) -> Tensor:
        """[N] whether the prediction is the target, or not the label."""
        hit = logits.argmax(dim=1) == (self.aim if self.aim.dim() == 1 else self.aim.argmax(dim=1))
        return hit if self.sign < 0 else ~hit

    def survivors(self) -> Tensor | None:
        """Positions, among the samples still pursued, of those without success; None if that is all of them.

        The others are finished: what they are credited with no longer changes. One host sync.
        """
        if not self.keep_best:
            return None
        keep = (~self.success[self.active]).nonzero().flatten()
        if len(keep) == len(self.active):
            return None
        self.active, self.x, self.aim = self.active[keep], self.x[keep], self.aim[keep]
        return keep

    def _loss(self, logits: Tensor) -> Tensor:
        return self.sign * F.cross_entropy(logits, self.aim, reduction="none")

    def _record(self, x_adv: Tensor, logits: Tensor, loss: Tensor) -> None:
        if self.best_logits is None:
            self.best_logits = logits.new_zeros(len(self.best), logits.shape[1])
        active, success = self.active, self.succeeded(logits)
        known = self.success[active]
        # A success beats any failure; among equals the higher loss wins. NaN logits never replace a finding.
        better = (success & ~known) | ((success == known) & (loss > self.best_loss[active]))
        self.best_loss[active] = torch.where(better, loss, self.best_loss[active])
        self.best[active] = torch.where(better.view(-1, *[1] * (x_adv.dim() - 1)), x_adv, self.best[active])
        self.best_logits[active] = torch.where(better[:, None], logits, self.best_logits[active])
        self.success[active] = known | success


def _loss_scale(device: str) -> float:
    half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return HALF_PRECISION_SCALE if half else 1.0
