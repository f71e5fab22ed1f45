"""The published networks once more, as functions of the tensors in their files: nothing of this project takes part."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["badnet", "narrow_vgg", "provable", "tensors_of"]


def tensors_of(path: Path) -> dict[str, Tensor]:
    """What the file holds, as torch reads it."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content.get("net", content)


def badnet(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits of images [N, 1, 28, 28], below the softmax that the publisher puts on them."""
    x = (x - 0.5) / 0.5
    for name in ("conv1.0", "conv2.0"):
        x = F.avg_pool2d(F.relu(F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"])), 2)
    x = F.relu(F.linear(x.flatten(1), w["fc1.0.weight"], w["fc1.0.bias"]))
    return F.linear(x, w["fc2.0.weight"], w["fc2.0.bias"])


def narrow_vgg(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits of images [N, 3, 32, 32]."""
    for conv in (0, 3, 8, 11, 16, 19):
        x = F.conv2d(x, w[f"features.{conv}.weight"], w[f"features.{conv}.bias"], padding=1)
        mean, var, scale, shift = (
            w[f"features.{conv + 1}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.elu(F.batch_norm(x, mean, var, scale, shift))
        x = F.max_pool2d(x, 2) if conv in (3, 11, 19) else x
    return F.linear(x.flatten(1), w["classifier.weight"], w["classifier.bias"])


def provable(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits of images [N, 1, 28, 28]."""
    for conv in (0, 2):
        x = F.relu(F.conv2d(x, w[f"{conv}.weight"], w[f"{conv}.bias"], stride=2, padding=1))
    x = F.relu(F.linear(x.flatten(1), w["5.weight"], w["5.bias"]))
    return F.linear(x, w["7.weight"], w["7.bias"])
