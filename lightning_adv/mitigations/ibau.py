"""I-BAU, adversarial unlearning by implicit hypergradients (Zeng et al., 2022): the worst perturbation is unlearnt.

    min_w  L(x + d*(w), y),    d*(w) = argmin_d  g(d, w),    g = -CE( f_w(x + d), f_w(x) ) + lambda |d|^2

The outer gradient knows that d* moves with w. With Phi(d, w) = d - step grad_d g, whose fixed point is d*,

    dL/dw = grad_w L + (dPhi/dw)^T v,    v <- (dPhi/dd)^T v + grad_d L,  repeated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import Classifier, at_weights, logits_of, predicted
from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages, shuffled_minibatches
from lightning_adv.mitigations.mitigation import Mitigation, Repair

__all__ = ["IBAU"]

PENALTY = 1e-3
INNER_LR, LONGEST = 10.0, 10.0
"""Of the search for the perturbation, and its largest norm."""

STEP = 0.1
"""Of the map whose fixed point the perturbation is."""


class IBAU(Mitigation):
    """Rounds of a search for the perturbation that changes most verdicts, and of unlearning it with the right labels.

    Perturbed images are clamped to [0, 1], and every step of the search has a fresh minibatch.

    Args:
        rounds: of search and unlearning, an epoch each.
        iterations: of the fixed point that the hypergradient is taken from.
        share: of the images of a minibatch that carry the perturbation, at least one.
        lr: of Adam, which unlearns; None: it is chosen from ``rates``.
        batch_size, held_out, seed: see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> IBAU(rounds=1)(model, [(torch.rand(20, 1, 2, 2), torch.arange(20) % 3)]).tuned_on
        16
    """

    rates = (1e-3, 3e-4, 1e-4)

    def __init__(
        self,
        rounds: int = 5,
        iterations: int = 5,
        share: float = 0.01,
        lr: float | None = None,
        batch_size: int = 100,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(1, lr, batch_size, held_out, seed)
        if rounds < 1 or iterations < 1 or not 0 < share <= 1:
            raise InputError(
                f"IBAU needs rounds >= 1, iterations >= 1 and share in (0, 1], got {rounds}, {iterations} and {share}"
            )
        self.rounds, self.iterations, self.share = rounds, iterations, share

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Find the worst perturbation, unlearn it, again."""
        # In half precision the squares that Adam divides by would be rounded to zero.
        weights = {
            name: p.detach().float().clone().requires_grad_() for name, p in model.named_parameters() if p.requires_grad
        }
        adam = torch.optim.Adam(weights.values(), self.lr)
        for seed in range(self.seed, self.seed + self.rounds):
            self._unlearn(model, images, self.worst(model, images, seed), weights, adam, seed)
        return Repair()

    def worst(self, model: nn.Module, images: CleanImages, seed: int) -> Tensor:
        """The perturbation [1, C, H, W] that an epoch of gradient descent on ``g`` finds."""
        delta = torch.zeros_like(images.image[:1]).requires_grad_()
        sgd = torch.optim.SGD([delta], INNER_LR)
        self.descend(sgd, images, lambda x, _: mildness(model, x, delta), falling=False, seed=seed)
        return (delta.detach() * (LONGEST / delta.detach().norm().clamp(min=LONGEST))).requires_grad_()

    def _unlearn(
        self,
        model: nn.Module,
        images: CleanImages,
        delta: Tensor,
        weights: dict[str, Tensor],
        adam: torch.optim.Optimizer,
        seed: int,
    ) -> None:
        own = dict(model.named_parameters())
        fresh = shuffled_minibatches(images.image, min(self.batch_size, len(images.image)), seed + self.rounds)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            few = max(1, round(self.share * len(x)))
            asked = at_weights(model, {name: weight.to(own[name].dtype) for name, weight in weights.items()})
            outer = F.cross_entropy(logits_of(asked, torch.cat([shifted(x[:few], delta), x[few:]])), y)
            return implicit(outer, mildness(asked, next(fresh), delta), delta, self.iterations)

        self.descend(adam, images, loss, falling=False, seed=seed)
        with torch.no_grad():
            for name, weight in weights.items():
                own[name].copy_(weight)


def shifted(x: Tensor, delta: Tensor) -> Tensor:
    """Images with the perturbation."""
    return (x + delta).clamp(0, 1)


def mildness(model: Classifier, x: Tensor, delta: Tensor) -> Tensor:
    """The inner objective ``g``: low where the perturbation turns many verdicts and is short."""
    with torch.no_grad():
        said = predicted(logits_of(model, x)).clamp(min=0)
    return PENALTY * delta.square().sum() - F.cross_entropy(logits_of(model, shifted(x, delta)), said)


def implicit(outer: Tensor, inner: Tensor, delta: Tensor, iterations: int) -> Tensor:
    """A value whose gradient with respect to anything but ``delta`` is the hypergradient of ``outer``.

    Args:
        outer: value of the outer objective at ``delta``.
        inner: value of the inner one.
        delta: where the inner one has its minimum, nearly.
        iterations: of the fixed point for v.
    """
    (direct,) = torch.autograd.grad(outer, delta, retain_graph=True)
    (slope,) = torch.autograd.grad(inner, delta, create_graph=True)
    moved = delta - STEP * slope
    v = torch.zeros_like(delta)
    for _ in range(iterations):
        v = torch.autograd.grad(moved, delta, v, retain_graph=True)[0] + direct
    return outer + (moved * v).sum()
