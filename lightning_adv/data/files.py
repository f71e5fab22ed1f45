"""Reading files that users bring: every failure says which file, what was expected and what to do."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightning_adv.errors import InputError

__all__ = ["npz_shapes", "read_npz", "require", "unreadable"]

_NPZ_ERRORS = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def require(path: Path, expected: str, remedy: str) -> Path:
    """``path`` if it exists, else an ``InputError`` that says what was expected there and the remedy."""
    if path.exists():
        return path
    raise InputError(f"{path} does not exist; expected {expected}; {remedy}")


def unreadable(path: Path, error: Exception | str, remedy: str) -> InputError:
    """The error to raise for a file that exists but cannot be read."""
    return InputError(f"{path} is corrupt or not what it should be ({error}); {remedy}")


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every array of an npz file, from the headers alone."""
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                    shapes[name.removesuffix(".npy")] = read[version](member)[0]
    except (*_NPZ_ERRORS, KeyError) as error:
        raise unreadable(path, error, "expected an npz file as numpy.savez writes it") from error
    return shapes


def read_npz(path: Path, keys: Sequence[str]) -> list[np.ndarray]:
    """The arrays ``keys`` of an npz file. Pickled objects are refused: reading them could run code."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            if missing:
                raise InputError(f"{path} has no array {missing[0]!r}; it holds {', '.join(archive) or 'nothing'}")
            return [archive[key] for key in keys]
    except InputError:
        raise
    except _NPZ_ERRORS as error:
        raise unreadable(path, error, "expected an npz file of plain arrays as numpy.savez writes it") from error
