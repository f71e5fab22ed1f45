"""DeepFool (Moosavi-Dezfooli, Fawzi, Frossard, 2016): step to the nearest boundary of the linearised classifier.

k = argmin_k |f_k - f_y| / |w_k|_dual,   r_{t+1} = r_t + (|f_k - f_y| / |w_k|_dual) * direction(w_k),
x_{t+1} = x + (1 + overshoot) r_{t+1},   w_k = grad f_k - grad f_y at x_t
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Norm, as_norm
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.losses import margin
from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError, at_least_one

__all__ = ["DeepFool"]

DUAL = {"L2": 2, "Linf": 1}

SHORTEST_STEP = 1e-4
"""In units of the norm: crosses the boundary from the boundary itself, and where the box swallows most of each step."""


LATER_CANDIDATES = 3
"""Of the classes looked at in the first step, the nearest so many are looked at in later ones: each is a backward."""


class DeepFool(Attack):
    """Newton-like steps across the nearest of the class boundaries, until the label is left.

    All samples and candidate classes move together; a sample leaves as soon as it is fooled. With a target, the steps
    go to the boundary between the target and the class that leads at the moment.

    Args:
        steps: most steps; each costs a forward to judge, one to differentiate and a backward for each candidate class.
        norm: "L2" (the paper's) or "Linf".
        overshoot: how far beyond the boundary, as a share of the whole perturbation.
        candidates: that many most likely classes, the label among them, are looked at in the first step, the three
            nearest of them afterwards; None for all.
        eps: a success counts only within this distance; default any.

    Raises:
        InputError: steps below 1, a negative overshoot, fewer than 2 candidates, another norm.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> DeepFool(norm="Linf").run(model, x, model(x).argmax(dim=1)).images.shape
        torch.Size([2, 1, 2, 2])
    """

    loss = staticmethod(margin)
    judges_itself = True

    def __init__(
        self,
        steps: int = 50,
        norm: Norm = "L2",
        overshoot: float = 0.02,
        candidates: int | None = 10,
        eps: Budget | None = None,
    ) -> None:
        super().__init__()
        at_least_one(steps=steps)
        if as_norm(norm) not in DUAL:
            raise InputError(f"DeepFool's norm must be L2 or Linf, got {norm!r}; FAB finds minimal L1 perturbations")
        if not 0 <= overshoot < float("inf"):
            raise InputError(f"overshoot must be finite and not negative, got {overshoot}")
        if candidates is not None and candidates < 2:
            raise InputError(f"candidates must be at least 2, the label and another class, got {candidates}")
        self.norm, self.shortest = norm, norm
        self.steps, self.overshoot, self.candidates = steps, overshoot, candidates
        self.eps = None if eps is None else as_eps(eps, norm)

    def perturb(self, goal: Goal, noise: Noise) -> None:
        """The loop of the module's equation."""
        x_adv, total = goal.x, torch.zeros_like(goal.x)
        logits = goal.logits(x_adv)
        rivals = self._rivals(goal, logits)
        for _ in range(self.steps):
            # A step is up to ten model passes for every sample, so each step pays its host sync.
            keep = (~goal.succeeded(logits)).nonzero().flatten()
            if len(keep) < len(logits):
                goal.pursue(keep)
                x_adv, total, rivals = x_adv[keep], total[keep], rivals[keep]
                if not len(keep):
                    return
            gaps, grads = _gaps(goal, x_adv, rivals)
            slopes, distances = self._distances(gaps, grads)
            if rivals.shape[1] > LATER_CANDIDATES:
                rivals = rivals.gather(1, distances.topk(LATER_CANDIDATES, dim=1, largest=False).indices)
            total = total + self._step(slopes, distances, grads)
            x_adv = (goal.x + (1 + self.overshoot) * total).clamp(0, 1)
            logits = goal.logits(x_adv)

    def _rivals(self, goal: Goal, logits: Tensor) -> Tensor:
        """[N, M] most likely classes other than the label, at the clean image."""
        classes = logits.shape[1]
        count = min(self.candidates or classes, classes) - 1
        return logits.scatter(1, goal.y[:, None], -torch.inf).topk(count, dim=1).indices

    def _distances(self, gaps: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
        """Dual norms of the gradients and distances of the linearised boundaries, [N, M] each, in float64.

        Args:
            gaps: [N, M] what the image is short of each boundary.
            grads: [M, N, C, H, W] their gradients.
        """
        # Double, for squares of tiny gradients underflow.
        slopes = torch.linalg.vector_norm(grads.flatten(2), ord=DUAL[self.norm], dim=2, dtype=torch.float64).T
        distances = gaps.abs().double() / slopes
        return slopes, torch.where(distances.isfinite() & (slopes > 0), distances, torch.inf)

    def _step(self, slopes: Tensor, distances: Tensor, grads: Tensor) -> Tensor:
        """The shortest step [N, C, H, W] to one of the linearised boundaries."""
        distance, nearest = distances.min(dim=1)
        here = torch.arange(len(nearest), device=nearest.device)
        grad, slope = grads[nearest, here], slopes[here, nearest]
        distance = torch.where(distance.isinf(), 0, distance.clamp(min=SHORTEST_STEP))
        shape = (-1, *[1] * (grad.dim() - 1))
        if self.norm == "Linf":
            return distance.float().view(shape) * grad.sign()
        return (grad.double() * (distance / slope.clamp(min=torch.finfo(slope.dtype).tiny)).view(shape)).float()


def _gaps(goal: Goal, x_adv: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """[N, M] logits of the rivals minus the label's, and the gradients [M, N, C, H, W] of these differences."""
    if goal.reach:
        lead, grad = goal.loss_and_gradient(x_adv)
        return lead[:, None], grad[None]
    classes = goal.best_logits.shape[1]
    label = F.one_hot(goal.y, classes)
    weights = (F.one_hot(rivals.T, classes) - label).float()  # [M, N, K]
    logits, grads = goal.logits_and_gradients(x_adv, weights)
    return logits.gather(1, rivals) - logits.gather(1, goal.y[:, None]), grads
