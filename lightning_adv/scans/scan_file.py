"""A scan as a file: numbers, labels, scores and suspects of training images, in safetensors."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.scans.report import ScanReport

__all__ = ["load_suspects", "save_scan"]

TYPES = {"index": torch.int64, "label": torch.int64, "score": torch.float32, "suspect": torch.bool}


def save_scan(path: str | Path, report: ScanReport) -> None:
    """Write a report's images to a safetensors file (``scan_NAME.safetensors`` of a run).

    Args:
        path: of the file; its folder is made.
        report: of a scan.
    """
    # A copy each: safetensors refuses tensors that share memory.
    tensors = {name: vars(report)[name].to(dtype, copy=True).contiguous() for name, dtype in TYPES.items()}
    replace_atomically(path, save(tensors, metadata={"scan": report.scan}))


def load_suspects(path: str | Path) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers [N] and labels [N] of the images that were scanned, and which of them [N] are suspects.

    Raises:
        InputError: no such file, a file of another kind, tensors that do not belong together.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"no file {path}; PoisonScan writes scan_NAME.safetensors into its run folder")
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); scan again") from error
    fits = found.keys() == TYPES.keys() and all(
        each.dtype == TYPES[name] and each.shape == found["index"].shape and each.dim() == 1
        for name, each in found.items()
    )
    if not fits:
        raise InputError(f"{path} is no scan: that holds {', '.join(TYPES)}, one number an image; scan again")
    index = found["index"]
    if not len(index) or int(index.min()) < 0 or len(index.unique()) < len(index):
        raise InputError(f"{path} is damaged: images have numbers from 0, each its own; scan again")
    return index, found["label"], found["suspect"]
