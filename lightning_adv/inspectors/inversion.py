"""Images that a model itself remembers: substitutes for clean data that nobody has (Fredrikson et al., 2015).

minimise over x   CE(f(x), k) + weight TV(x),    x in [0, 1], from noise
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.inspectors.suspect import Suspect

__all__ = ["invert"]

BATCH_SIZE = 256


def invert(
    suspect: Suspect,
    labels: Tensor,
    shape: tuple[int, int, int],
    steps: int,
    generator: torch.Generator,
    lr: float = 0.05,
    smoothness: float = 1e-2,
) -> Tensor:
    """One image [N, C, H, W] in [0, 1] for each label [N], by Adam from uniform noise.

    Args:
        suspect: the model, frozen and in eval mode.
        labels: classes to be seen in the images, on the model's device.
        shape: channels, height, width.
        steps: of Adam.
        generator: on the CPU, for the noise.
        lr: of Adam, in pixel units of [0, 1].
        smoothness: weight of the total variation, the sum of absolute differences between neighbours.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        >>> _ = net[1].weight.data.copy_(torch.tensor([[9.0, 9, 0, 0], [0, 0, 9, 9]]))
        >>> images = invert(Suspect(net), torch.tensor([0, 1]), (1, 2, 2), 50, torch.Generator().manual_seed(0))
        >>> net(images).argmax(dim=1)
        tensor([0, 1])
    """
    noise = torch.rand(len(labels), *shape, generator=generator).to(labels.device)
    return torch.cat(
        [_descend(suspect, x, y, steps, lr, smoothness) for x, y in zip(*_batches(noise, labels), strict=True)]
    )


def _batches(*tensors: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    return tuple(each.split(BATCH_SIZE) for each in tensors)


def _descend(suspect: Suspect, x: Tensor, label: Tensor, steps: int, lr: float, smoothness: float) -> Tensor:
    x = x.clone().requires_grad_(True)
    adam = torch.optim.Adam([x], lr)
    for _ in range(steps):
        rough = (x.diff(dim=2).abs().sum() + x.diff(dim=3).abs().sum()) * smoothness
        loss = F.cross_entropy(suspect(x), label, reduction="sum") + rough
        (x.grad,) = torch.autograd.grad(loss, x)
        adam.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return x.detach()
