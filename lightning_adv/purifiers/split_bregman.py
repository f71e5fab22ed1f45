"""Split Bregman iteration (Goldstein and Osher, 2009) for total variation with a weight for every pixel, in batches.

    min_u  sum_p |grad u|_p  +  1/2 sum_p f_p (u_p - x_p)^2,    with d for the gradient of u and q its penalty:

    d = shrink(grad u + b, 1/q),   b = b + grad u - d,
    (f + q grad^T grad) u = f x + q grad^T (d - b)    by one over-relaxed red-black sweep

Twice: in place for speed, and out of place for autograd. A test holds them together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["iterated", "minimised"]

RELAXATION = 1.3
"""Of the sweep."""

SMALLEST = 1e-12
"""Added to the squared length of a gradient: the square root stays differentiable in flat areas."""


def minimised(start: Tensor, x: Tensor, fidelity: Tensor, steps: int, penalty: float) -> Tensor:
    """u [N, C, H, W] after some steps from ``start``, without a graph and with no tensor made inside the loop.

    Args:
        start: [N, C, H, W].
        x: the image [N, C, H, W].
        fidelity: f [N, C, H, W], not negative.
        steps: of the iteration.
        penalty: q.
    """
    framed = F.pad(start, (1, 1, 1, 1))  # zeros around, so that missing neighbours add nothing
    u, right, below = framed[..., 1:-1, 1:-1], framed[..., 1:-1, 2:], framed[..., 2:, 1:-1]
    left, above = framed[..., 1:-1, :-2], framed[..., :-2, 1:-1]
    pull, diagonal, sweep = _system(x, fidelity, penalty)
    b_x, b_y = torch.zeros_like(x), torch.zeros_like(x)
    t_x, t_y, d_x, d_y, shrink, goal, residual = (torch.empty_like(x) for _ in range(7))
    for _ in range(steps):
        torch.sub(right, u, out=t_x)[..., -1] = 0
        torch.sub(below, u, out=t_y)[..., -1, :] = 0
        t_x.add_(b_x)
        t_y.add_(b_y)
        torch.mul(t_x, t_x, out=shrink).addcmul_(t_y, t_y).add_(SMALLEST).rsqrt_().mul_(-1 / penalty).add_(1)
        shrink.clamp_min_(0)
        torch.mul(t_x, shrink, out=d_x)
        torch.mul(t_y, shrink, out=d_y)
        torch.sub(t_x, d_x, out=b_x)
        torch.sub(t_y, d_y, out=b_y)
        p_x, p_y = d_x.sub_(b_x), d_y.sub_(b_y)
        torch.sub(pull, p_x, out=goal).sub_(p_y)
        goal[..., 1:] += p_x[..., :-1]
        goal[..., 1:, :] += p_y[..., :-1, :]
        for colour in sweep:
            torch.add(left, right, out=residual).add_(above).add_(below).add_(goal).addcmul_(diagonal, u, value=-1)
            u.addcmul_(colour, residual)
    return u.clone()


def iterated(state: Tensor, x: Tensor, fidelity: Tensor, steps: int, penalty: float) -> Tensor:
    """State (u, b_x, b_y) [3, N, C, H, W] after some steps, for autograd; arguments as in :func:`minimised`."""
    u, b_x, b_y = state
    pull, diagonal, sweep = _system(x, fidelity, penalty)
    for _ in range(steps):
        t_x = F.pad(u[..., 1:] - u[..., :-1], (0, 1)) + b_x
        t_y = F.pad(u[..., 1:, :] - u[..., :-1, :], (0, 0, 0, 1)) + b_y
        shrink = (1 - (t_x * t_x + t_y * t_y + SMALLEST).rsqrt() / penalty).clamp_min(0)
        d_x, d_y = t_x * shrink, t_y * shrink
        b_x, b_y = t_x - d_x, t_y - d_y
        p_x, p_y = d_x - b_x, d_y - b_y
        goal = pull - p_x - p_y + F.pad(p_x[..., :-1], (1, 0)) + F.pad(p_y[..., :-1, :], (0, 0, 1, 0))
        for colour in sweep:
            framed = F.pad(u, (1, 1, 1, 1))
            across = framed[..., 1:-1, :-2] + framed[..., 1:-1, 2:]
            neighbours = across + framed[..., :-2, 1:-1] + framed[..., 2:, 1:-1]
            u = u + colour * (goal + neighbours - diagonal * u)
    return torch.stack([u, b_x, b_y])


def _system(x: Tensor, fidelity: Tensor, penalty: float) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Right-hand side and diagonal of the equation for u, divided by q, and the factors of the two half-sweeps."""
    pull = fidelity * x / penalty
    cross = x.new_tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    neighbours = F.conv2d(torch.ones_like(x[:1, :1]), cross, padding=1)  # [1, 1, H, W]: 2 to 4
    diagonal = fidelity / penalty + neighbours
    places = (torch.arange(size, device=x.device) for size in x.shape[2:])
    red = (sum(torch.meshgrid(*places, indexing="ij")) % 2).to(x.dtype)
    return pull, diagonal, (red * RELAXATION / diagonal, (1 - red) * RELAXATION / diagonal)
