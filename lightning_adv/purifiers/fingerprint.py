"""Which purifier made an image: a hash of what its results depend on."""

import hashlib

import torch
from torch import nn

from lightning_adv.purifiers.denoising import NoiseSchedule

__all__ = ["fingerprint"]

ELSEWHERE = {"training", "path", "cache", "local_files_only", "name_or_path"}
"""Where things lie says nothing of what they are: weights are hashed themselves."""


def fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits that tell purifiers (or parts of them) with different results apart.

    Of every class, hyperparameter and weight; not of the folders they come from.

    Example:
        >>> from lightning_adv.purifiers import BitDepth
        >>> fingerprint(BitDepth(3)) == fingerprint(BitDepth(3)) != fingerprint(BitDepth(2))
        True
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, part in module.named_modules():
        digest.update(f"{name} {type(part).__name__} {_settings(part)}\n".encode())
    for name, weight in module.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(part: nn.Module) -> dict[str, str]:
    """Hyperparameters of a part, printed."""
    return {key: repr(_plain(value)) for key, value in sorted(vars(part).items()) if _is_setting(key, value)}


def _is_setting(key: str, value: object) -> bool:
    kinds = (int, float, str, bool, tuple, list, dict, NoiseSchedule)
    return isinstance(value, kinds) and not key.startswith("_") and key not in ELSEWHERE


def _plain(value: object) -> object:
    """Without what diffusers writes down about files and versions."""
    if not isinstance(value, dict):
        return value
    return {key: _plain(each) for key, each in sorted(value.items()) if not str(key).startswith("_")}
