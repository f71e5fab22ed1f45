"""Files that are no weights, told by their content whatever their suffix is, and what to do about each of them."""

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lightning_adv.errors import InputError

__all__ = ["refuse_kind", "refuse_pickle", "refuse_shards", "refuse_spread"]

_BEGINNINGS = (
    ((b"<!doctype", b"<html", b"<?xml"), "a web page, not weights: the download went wrong; fetch the file itself"),
    ((b"version https://git-lfs",), "a Git LFS pointer, not weights: run `git lfs pull`"),
    ((b"\x89hdf",), "an HDF5 file (of Keras or h5py): save its weights as .safetensors"),
)
_PROGRAMS = (
    (
        re.compile(r"[^/]+/(code/|constants\.pkl$)"),
        "a TorchScript archive, which is a program: where you trust it, save its weights by torch.save("
        "torch.jit.load(FILE).state_dict(), NEW) and give them with --model.backbone=NAME",
    ),
    (
        re.compile(r"([^/]+/)?(archive_format|models/[^/]+\.json|serialized_exported_program\.json)$"),
        "a program of torch.export: where you trust it, save its weights by torch.save("
        "torch.export.load(FILE).state_dict, NEW) and give them with --model.backbone=NAME",
    ),
)
"""Kinds of archives, told by the name of one of their entries."""

_SPREAD = (
    "{} holds tensors that processes had shared out (DTensor), each of them with a part: save the whole ones, by "
    "torch.distributed.checkpoint.state_dict.get_model_state_dict with StateDictOptions(full_state_dict=True)"
)
_CONVERTER = "torch.distributed.checkpoint.format_utils dcp_to_torch"

_BEFORE_A_CLASS = ("PROTO", "MARK", "BINUNICODE", "BINPUT")
"""Operations of a pickle that come before the class of its outermost object; in the old format the word "module"."""


def refuse_kind(path: Path) -> None:
    """Name the kinds of files that most often come in place of weights.

    Raises:
        InputError: what the file is, and what to do.
    """
    with path.open("rb") as file:
        beginning = file.read(512)
    if beginning[8:9] == b"{":
        return  # safetensors: the first eight bytes are a length, and may look like anything
    text = beginning.lstrip().lower()
    if not text:
        raise InputError(f"{path} is empty")
    for beginnings, kind in _BEGINNINGS:
        if text.startswith(beginnings):
            raise InputError(f"{path} is {kind}")
    if beginning.startswith(b"\x80") and beginning[1:2] > b"\x02":  # torch.save writes protocol 2
        raise InputError(f"{path} is refused: it is a plain pickle, which can run code; save it with torch.save")
    entries = _entries(path) if beginning.startswith(b"PK") else []
    for pattern, kind in _PROGRAMS:
        if any(map(pattern.match, entries)):
            raise InputError(f"{path} is refused: it is {kind}")


def refuse_shards(folder: Path) -> None:
    """Name the folder in which processes have each saved their share of a checkpoint; others pass.

    Raises:
        InputError: the list of its shards is a pickle, which is not read; how to make one file of it.
    """
    if not (folder / ".metadata").is_file():
        return
    of_lightning = (folder / "meta.pt").is_file()
    module = "lightning_fabric.utilities.consolidate_checkpoint" if of_lightning else _CONVERTER
    arguments = f"{folder} --output_file FILE.ckpt" if of_lightning else f"{folder} FILE.pt"
    raise InputError(
        f"{folder} holds a checkpoint in shards, whose list is a pickle, which can run code: where you trust it, make "
        f"one file of it, by python -m {module} {arguments}"
    )


def refuse_spread(state: object, path: Path) -> None:
    """Name the file that has of each tensor what one process had of it.

    Args:
        state: tensors by name.
        path: of the file.

    Raises:
        InputError: how to save whole tensors.
    """
    values = state.values() if isinstance(state, Mapping) else ()
    if any(type(each).__name__ == "DTensor" for each in values):  # the class is not imported where there is none
        raise InputError(_SPREAD.format(path))


def refuse_pickle(path: Path, error: Exception) -> InputError:
    """What to tell of a file whose pickle asks for more than plain values.

    Args:
        path: of the file.
        error: that torch raised.
    """
    whole = _outermost(path)
    if whole is not None:
        return InputError(
            f"{path} is refused: it is a whole {whole}, pickled by torch.save(model), and opening that runs code; "
            "where you trust it, save torch.save(model.state_dict(), NEW) and give that with --model.backbone=NAME"
        )
    if "DTensor" in str(error):
        return InputError(_SPREAD.format(path))
    named = re.search(r"(?:GLOBAL|class|import) `?([\w.]+\.\w+)`?", str(error))
    if named is None:
        return InputError(f"{path} is not a file that torch.save writes by default, or it is damaged; save it again")
    return InputError(
        f"{path} is refused: it asks for {named[1]}, and files of weights are read without running code; "
        "save only tensors and plain Python values (model.state_dict()), best as .safetensors"
    )


def _entries(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # what is damaged is told by whoever reads it
        return []


def _outermost(path: Path) -> str | None:
    """The class of the object that a file of torch holds, read without building it; None for a collection."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                (name,) = (each for each in archive.namelist() if each.count("/") == 1 and each.endswith("/data.pkl"))
                operations = pickletools.genops(archive.read(name))
                return _first_class(operations)
        with path.open("rb") as file:
            for _ in range(3):  # the old format: a magic number, a version and facts of the system come before
                for _ in pickletools.genops(file):
                    pass
            return _first_class(pickletools.genops(file))
    except Exception:  # as above
        return None


def _first_class(operations: object) -> str | None:
    for operation, argument, _ in operations:
        if operation.name == "GLOBAL":
            module, name = argument.split(" ")
            return None if module == "collections" else f"{module}.{name}"
        if operation.name not in _BEFORE_A_CLASS:
            return None
    return None
