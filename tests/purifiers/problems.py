"""Real digits and colourful scenes to purify, a linear classifier to attack, and a slow minimiser to compare with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.data import MNISTSubset, float_images

__all__ = ["digits", "linear_classifier", "long_run", "scenes", "total_variation_energy"]


def digits(count: int) -> Tensor:
    """MNIST test images [N, 1, 28, 28] in [0, 1]."""
    data = MNISTSubset(batch_size=50)
    data.setup()
    return float_images(data.datasets["test"].images[:count])


def scenes(count: int, size: int = 32) -> Tensor:
    """Patches of a photograph that ships with scikit-learn, [N, 3, size, size] in [0, 1]."""
    from sklearn.datasets import load_sample_image

    photograph = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1).float() / 255
    places = torch.randint(0, 360, (count, 2), generator=torch.Generator().manual_seed(0)).tolist()
    return torch.stack([photograph[:, y : y + size, x : x + size] for y, x in places])


def linear_classifier(shape: tuple[int, int, int], classes: int = 3) -> nn.Module:
    """Logits that are a fixed linear function of an image of this shape."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))


def total_variation_energy(u: Tensor, x: Tensor, kept: Tensor, weight: float) -> Tensor:
    """The paper's objective of each image [N], in the precision of its arguments."""
    g_x, g_y = _gradient(u)
    variation = (g_x.square() + g_y.square()).sqrt().flatten(1).sum(dim=1)
    return variation + (kept * (u - x).square()).flatten(1).sum(dim=1) / (2 * weight)


def long_run(x: Tensor, kept: Tensor, weight: float, steps: int = 6000) -> Tensor:
    """Minimiser of that objective by another algorithm: Chambolle and Pock (2011) in float64."""
    x, kept = x.double(), kept.double()
    tau, sigma = 0.02, 1 / (8 * 0.02)
    u, ahead, p_x, p_y = x, x, torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(steps):
        g_x, g_y = _gradient(ahead)
        p_x, p_y = p_x + sigma * g_x, p_y + sigma * g_y
        length = (p_x.square() + p_y.square()).sqrt().clamp_min(1)
        p_x, p_y = p_x / length, p_y / length
        adjoint = F.pad(p_x, (1, 0))[..., :-1] - p_x + F.pad(p_y, (0, 0, 1, 0))[..., :-1, :] - p_y
        new = (u - tau * adjoint + tau / weight * kept * x) / (1 + tau / weight * kept)
        u, ahead = new, 2 * new - u
    return u


def _gradient(u: Tensor) -> tuple[Tensor, Tensor]:
    return F.pad(u[..., 1:] - u[..., :-1], (0, 1)), F.pad(u[..., 1:, :] - u[..., :-1, :], (0, 0, 0, 1))
