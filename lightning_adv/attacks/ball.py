"""The set an attacker may move in: a norm ball around the images, cut with the pixel box [0, 1]."""

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_adv.attacks.noise import Noise
from lightning_adv.errors import InputError

__all__ = ["Ball", "Norm", "as_norm", "lengths", "perturbation_norms", "project_onto_l1_ball_and_box"]

Norm = Literal["Linf", "L2", "L1"]
"""How the length of a perturbation is measured."""

L1_SHARE_OF_PIXELS = 0.01
"""Share of the pixels that one L1 step moves (Tramèr and Boneh, 2019, use the top percent)."""


_TINY = torch.finfo(torch.float32).tiny


def as_norm(value: str) -> Norm:
    """Check the name of a norm.

    Raises:
        InputError: none of "Linf", "L2", "L1".
    """
    if value not in get_args(Norm):
        raise InputError(f"norm must be one of {', '.join(get_args(Norm))}, got {value!r}")
    return value


class Ball:
    """B(center, eps) cut with the box [0, 1], under Linf, L2 or L1.

    Args:
        center: [N, C, H, W] the clean images, in [0, 1].
        eps: radius in pixel units of [0, 1]; [N, 1, 1, 1] for one of each image's own.
        norm: "Linf", "L2" or "L1".

    Example:
        >>> ball = Ball(torch.full((1, 1, 1, 2), 0.9), eps=0.2)
        >>> ball.project(torch.tensor([[[[0.0, 2.0]]]]))
        tensor([[[[0.7000, 1.0000]]]])
    """

    def __init__(self, center: Tensor, eps: float | Tensor, norm: Norm = "Linf") -> None:
        self.center, self.eps, self.norm = center, eps, as_norm(norm)
        self._radius = eps.flatten(1) if isinstance(eps, Tensor) else eps  # beside images without their shape
        if norm == "Linf":  # built once, not at every step
            self.lower, self.upper = (center - eps).clamp_(min=0), (center + eps).clamp_(max=1)

    def project(self, x: Tensor) -> Tensor:
        """Bring ``x`` [N, C, H, W] into the ball and the box.

        Linf and L1: the nearest point of the intersection. L2: the nearest point of the ball, then of the box, which
        lies in both because clamping moves every pixel towards the center's side.
        """
        if self.norm == "Linf":
            return torch.clamp(x, self.lower, self.upper)
        if self.norm == "L2":
            offset = (x - self.center).flatten(1)
            size = torch.linalg.vector_norm(offset, dim=1, keepdim=True).clamp(min=_TINY).clamp(min=self._radius)
            return offset.mul_(self._radius / size).view_as(x).add_(self.center).clamp_(0, 1)
        offset = project_onto_l1_ball_and_box(
            (x - self.center).flatten(1), -self.center.flatten(1), 1 - self.center.flatten(1), self._radius
        )
        return (self.center + offset.view_as(x)).clamp(0, 1)

    def ascend(self, x: Tensor, grad: Tensor, step_size: float | Tensor) -> Tensor:
        """``project(x + step_size * ascent_direction(grad, x))``, under L2 in half as many passes over memory."""
        if isinstance(step_size, Tensor):  # one for each image
            return self.project(torch.addcmul(x, step_size, self.ascent_direction(grad, x)))
        if self.norm != "L2":
            return self.project(x.add(self.ascent_direction(grad, x), alpha=step_size))
        slope, center = grad.flatten(1), self.center.flatten(1)
        steepness = torch.linalg.vector_norm(slope, dim=1, keepdim=True, dtype=torch.float64)  # tiny squares underflow
        pace = (step_size / steepness.clamp(min=_TINY * max(1.0, step_size))).to(slope.dtype)
        offset = (x.flatten(1) - center).addcmul_(slope, pace)
        size = torch.linalg.vector_norm(offset, dim=1, keepdim=True).clamp(min=max(self.eps, _TINY))
        return torch.addcmul(center, offset, self.eps / size).clamp_(0, 1).view_as(x)

    def random_point(self, noise: Noise) -> Tensor:
        """A uniform point of the ball, clamped to the box."""
        if self.norm == "Linf":
            return torch.clamp(self.center + self.eps * (2 * noise.uniform(self.center) - 1), 0, 1)
        if self.norm == "L2":
            direction = noise.normal(self.center).flatten(1)
            length = torch.linalg.vector_norm(direction, dim=1, keepdim=True).clamp(
                min=torch.finfo(direction.dtype).tiny
            )
            radius = noise.uniform(direction[:, :1]) ** (1 / direction.shape[1])
            offset = direction / length * radius
        else:  # normalised exponentials are uniform on the simplex; one more of them gives the inside of the ball
            share = -torch.log(1 - noise.uniform(self.center)).flatten(1)
            rest = -torch.log(1 - noise.uniform(share[:, :1]))
            sign = torch.where(noise.uniform(self.center) < 0.5, -1.0, 1.0).flatten(1)
            offset = sign * share / (share.sum(dim=1, keepdim=True) + rest)
        return torch.clamp(self.center + self.eps * offset.view_as(self.center), 0, 1)

    def ascent_direction(self, grad: Tensor, x: Tensor) -> Tensor:
        """The unit step that raises a linear loss most: sign (Linf), ``grad / |grad|`` (L2), the largest pixels (L1).

        Args:
            grad: [N, C, H, W] gradient of the loss at ``x``.
            x: where the step starts; L1 leaves out pixels that the box stops.
        """
        if self.norm == "Linf":
            return grad.sign()
        flat = grad.flatten(1)
        if self.norm == "L2":
            flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp(min=_TINY)  # squares of tiny gradients underflow
            return flat.div_(torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp(min=_TINY)).view_as(grad)
        here = x.flatten(1)
        stopped = ((flat > 0) & (here >= 1)) | ((flat < 0) & (here <= 0))
        slope = flat.abs().masked_fill(stopped, 0)
        count = max(1, round(L1_SHARE_OF_PIXELS * slope.shape[1]))
        value, pixel = slope.topk(count, dim=1)
        step = torch.zeros_like(flat).scatter_(1, pixel, (value > 0).to(flat.dtype)) * flat.sign()
        return (step / step.abs().sum(dim=1, keepdim=True).clamp(min=1)).view_as(grad)

    def select(self, keep: Tensor) -> "Ball":
        """The ball around the samples at the positions ``keep``."""
        return Ball(self.center[keep], self.eps[keep] if isinstance(self.eps, Tensor) else self.eps, self.norm)


def project_onto_l1_ball_and_box(offset: Tensor, lower: Tensor, upper: Tensor, eps: float | Tensor) -> Tensor:
    """The nearest point with |z|_1 <= eps and lower <= z <= upper (lower <= 0 <= upper), exactly, by one sort.

    The solution is z_i = sign(u_i) clamp(|u_i| - t, 0, cap_i), where t solves sum_i z_i(t) = eps: a decreasing,
    piecewise linear function of t whose kinks are |u_i| - cap_i and |u_i|.

    Args:
        offset: [N, D] the point u.
        lower: [N, D] at most 0.
        upper: [N, D] at least 0.
        eps: radius of the ball, [N, 1] where each row has its own.
    """
    size = offset.abs().double()
    cap = torch.where(offset >= 0, upper, -lower).clamp(min=0).double()
    total = torch.minimum(size, cap).sum(dim=1, keepdim=True)
    kinks, order = torch.cat([(size - cap).clamp(min=0), size], dim=1).sort(dim=1)
    starts = torch.cat([torch.full_like(size, -1), torch.ones_like(size)], dim=1)
    slope = starts.gather(1, order).cumsum(dim=1)  # slope behind each kink
    gaps = kinks.diff(dim=1)
    at_kink = torch.cat([torch.zeros_like(total), (slope[:, :-1] * gaps).cumsum(dim=1)], dim=1) + total
    last = ((at_kink >= eps).sum(dim=1, keepdim=True) - 1).clamp(min=0)
    excess = (at_kink.gather(1, last) - eps).clamp(min=0)
    threshold = kinks.gather(1, last) + excess / (-slope.gather(1, last)).clamp(min=1)
    threshold = torch.where(total > eps, threshold, 0.0)
    return (offset.sign() * torch.minimum((size - threshold).clamp(min=0), cap)).to(offset.dtype)


def lengths(offset: Tensor, norm: Norm) -> Tensor:
    """Length of each row of ``offset`` [..., D] in a norm, [...]."""
    if norm == "L2":
        return torch.linalg.vector_norm(offset, dim=-1)
    # Not vector_norm, whose maximum and sum along rows take a CPU many times as long.
    return offset.abs().amax(dim=-1) if norm == "Linf" else offset.abs().sum(dim=-1)


def perturbation_norms(clean: Tensor, adversarial: Tensor) -> dict[Norm, Tensor]:
    """Linf, L2 and L1 length of the perturbation of each sample, [N] each."""
    offset = (adversarial - clean).flatten(1).float()
    return {norm: lengths(offset, norm) for norm in get_args(Norm)}
