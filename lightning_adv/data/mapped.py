"""Arrays in npy and npz files of any size, of which only the rows that are asked for are read."""

import mmap
import struct
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from lightning_adv.data.files import unreadable
from lightning_adv.errors import InputError

__all__ = ["MappedArray", "map_npy", "map_npz"]

LOCAL_HEADER = 30
"""Bytes of a zip member's own header before its name."""

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class MappedArray:
    """An array in a file, mapped anew for every batch, so that what was read does not stay in memory.

    It is copied and sent to other processes as its place in the file, without its content.

    Args:
        path: of the file.
        offset: where the array's values begin, in bytes.
        shape: of the array.
        dtype: of its values.
        order: "C" or "F", as numpy names it.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    order: str

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, numbers: slice | Sequence[int]) -> np.ndarray:
        """Copies of these rows.

        Raises:
            InputError: the file is shorter than its header says.
        """
        try:
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            array = np.ndarray(self.shape, self.dtype, mapped, self.offset, order=self.order)
        except (OSError, ValueError, TypeError) as error:  # the last: more values than there are
            raise unreadable(self.path, error, "write it again, or fetch it again") from error
        if not isinstance(numbers, slice) and sys.platform != "win32":  # which cannot be told not to read ahead
            mapped.madvise(mmap.MADV_RANDOM)
        return np.array(array[numbers])


def map_npy(path: Path) -> MappedArray:
    """The array of an npy file.

    Raises:
        InputError: no such file, or another kind of file.
    """
    with _opened(path) as file:
        return _mapped(path, file)


def map_npz(path: Path, keys: Sequence[str]) -> list[MappedArray]:
    """Arrays of an npz file that ``numpy.savez`` wrote, where they lie in it.

    Raises:
        InputError: no such file, another kind of file, an array that is missing or compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise unreadable(path, error, "expected an npz file as numpy.savez writes it") from error
    missing = [key for key in keys if key not in members]
    if missing:
        raise InputError(f"{path} has no array {missing[0]!r}; it holds {', '.join(members) or 'nothing'}")
    arrays = []
    for key in keys:
        if members[key].compress_type != zipfile.ZIP_STORED:
            folder = path.with_suffix("")
            raise InputError(
                f"{path}: {key!r} is compressed, so that no single image can be read; unpack it once, by `python -m "
                f"zipfile -e {path} {folder}`, and give {folder / keys[0]}.npy"
            )
        with _opened(path) as file:
            file.seek(members[key].header_offset)
            header = file.read(LOCAL_HEADER)
            if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
                raise unreadable(path, f"{key!r} does not begin where the list says", "fetch it again")
            file.seek(sum(struct.unpack("<HH", header[26:30])), 1)  # its name, and what some writers add to it
            arrays.append(_mapped(path, file))
    return arrays


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error, "expected an npy or npz file") from error


def _mapped(path: Path, file: IO[bytes]) -> MappedArray:
    """The array whose header comes next in a file; its values must be plain numbers, which run no code."""
    try:
        shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise unreadable(path, error, "expected an array as numpy.save writes it") from error
    if dtype.kind not in "biuf" or not shape or not shape[0]:
        raise InputError(f"{path} must hold an array of numbers, not empty; got {dtype} of shape {list(shape)}")
    array = MappedArray(path, file.tell(), shape, dtype, "F" if fortran else "C")
    array.rows([0])  # a file that was cut off is refused here
    return array
