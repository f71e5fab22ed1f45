"""Whether what a file holds is what was saved: its check sums, its weights, its layout."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lightning_adv.errors import InputError

__all__ = ["check_archive", "check_finite", "check_layout"]

LAYOUT: dict[str, tuple[type, ...]] = {
    "state_dict": (Mapping,),
    "loops": (Mapping,),
    "callbacks": (Mapping,),
    "optimizer_states": (list,),
    "lr_schedulers": (list,),
    "epoch": (int,),
    "global_step": (int,),
    "pytorch-lightning_version": (str,),
}
"""Entries of a Lightning checkpoint and what they are; all but the weights may be absent."""


def check_archive(path: str | Path) -> None:
    """Compare a torch file with the check sums it was saved with, which torch does not when it loads it.

    Every part is read once, a megabyte at a time. Files of torch's old format, which are no archives, have none.

    Raises:
        InputError: the file was changed or cut off after it was saved.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # damaged bytes surface as almost any exception
        raise InputError(f"{path} is damaged or incomplete ({error}); fetch or save it again") from error
    if broken is not None:
        raise InputError(f"{path} is damaged: the check sum of {broken} is wrong; fetch or save it again")


def check_finite(state: object, path: str | Path) -> None:
    """Refuse weights that are no numbers: every result of such a model would be meaningless.

    A mask, which is 0 or minus infinity everywhere, is none.

    Args:
        state: tensors by name.
        path: where they are from, for the message.

    Raises:
        InputError: names the tensors that hold NaN or infinite values.

    Example:
        >>> check_finite({"mask": torch.tensor([0.0, -torch.inf])}, "a.ckpt")
        >>> try:
        ...     check_finite({"fc.bias": torch.tensor([0.0, torch.nan])}, "a.ckpt")
        ... except InputError as error:
        ...     print(str(error).split(";")[0])
        a.ckpt holds NaN or infinite values in fc.bias
    """
    tensors = state.items() if isinstance(state, Mapping) else ()
    wrong = [str(name) for name, each in tensors if isinstance(each, Tensor) and not _is_sound(each)]
    if wrong:
        named = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise InputError(
            f"{path} holds NaN or infinite values in {named}; the training diverged or the file was changed: take an "
            "earlier checkpoint"
        )


def check_layout(checkpoint: Mapping[str, object], path: str | Path) -> None:
    """Refuse a Lightning checkpoint whose parts are not of the kind that they must be.

    Raises:
        InputError: names the part.
    """
    for name, kinds in LAYOUT.items():
        if name not in checkpoint and name != "state_dict":
            continue
        value = checkpoint.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = "dictionary" if kinds == (Mapping,) else kinds[0].__name__
            raise InputError(
                f"{path} is no checkpoint of a run: its {name} is {_kind(value)}, expected a {wanted}; "
                "take the file that the run saved"
            )
    strange = [str(name) for name, each in checkpoint["state_dict"].items() if not isinstance(each, Tensor)]
    strange = [name for name in strange if not name.endswith("_extra_state")]
    if strange:
        raise InputError(f"{path} is no checkpoint of a run: {strange[0]} of its state_dict is not a tensor")


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def _is_sound(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta or tensor.is_sparse:
        return True
    finite = tensor.isfinite()
    if finite.all():
        return True
    is_mask = not tensor.is_complex() and (tensor[finite] == 0).all() and (tensor[~finite] == -torch.inf).all()
    return bool(is_mask and finite.any())
