"""Writing files so that a kill, a full disk or a loss of power leaves the old content or the new, never half of it."""

import errno
import io
import itertools
import os
import platform
import shutil
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lightning_adv.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["append_line", "read_lines", "replace_atomically", "replace_folder", "replace_npz"]

Content = bytes | str | Callable[[IO[bytes]], object]
REMEDIES = {
    errno.ENOSPC: "free space on that disk, or choose a folder on another one",
    errno.EDQUOT: "free space within your quota, or choose a folder on another disk",
    errno.EFBIG: "the limit on file sizes (ulimit -f) is too low",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "a file is where a folder should be; move it away, or choose another folder",
    errno.EEXIST: "a file is where a folder should be; move it away, or choose another folder",
    errno.EISDIR: "a folder is where the file should be; move it away, or choose another name",
}


def replace_atomically(path: str | os.PathLike[str], content: Content) -> None:
    """Replace a file in one step: readers see the old content or the new, also after a kill or a loss of power.

    The new content is written beside the file, under a hidden name, and is on the disk before it takes the file's
    place; what killed processes left under such names is removed.

    Args:
        path: of the file; its folder is made.
        content: bytes, text (UTF-8), or a function that writes into the binary stream that it is given.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full; the old file is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     replace_atomically(f"{folder}/a/numbers.txt", "1 2 3")
        ...     replace_atomically(f"{folder}/a/numbers.txt", lambda file: file.write(b"4"))
        ...     Path(f"{folder}/a/numbers.txt").read_text(), len(os.listdir(f"{folder}/a"))
        ('4', 1)
    """
    path = Path(path)
    waiting = path.with_name(f".{path.name}.{_process()}.tmp")
    failed: list[OSError] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent, path.name)
        with io.BufferedWriter(_Noting(waiting, failed)) as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(waiting, path)
        _flush_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            waiting.unlink()
        failed += [error] if isinstance(error, OSError) else []
        if failed and isinstance(error, Exception):
            raise _refusal(path, failed[0]) from error
        raise


def replace_folder(folder: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Write a folder of files so that a kill leaves each of them old or new; others in the folder stay.

    Args:
        folder: made if there is none.
        write: writes the files into the empty folder that it is given, which lies on the same disk.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     replace_folder(folder, lambda new: (new / "model.txt").write_text("weights"))
        ...     os.listdir(folder)
        ['model.txt']
    """
    folder = Path(folder)
    waiting = folder / f".files.{_process()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder, "files")
        shutil.rmtree(waiting, ignore_errors=True)
        waiting.mkdir()
        write(waiting)
        for file in sorted(each for each in waiting.rglob("*") if each.is_file()):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            target = folder / file.relative_to(waiting)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
            _flush_folder(target.parent)
    except OSError as error:
        raise _refusal(folder, error) from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def replace_npz(path: str | os.PathLike[str], **arrays: tuple[int, Iterable["np.ndarray"]]) -> None:
    """Replace an npz file whose arrays need not fit into memory, as :func:`replace_atomically` does.

    Args:
        path: of the file.
        **arrays: name to the rows of an array, and parts of it, one after the other, each with some rows. Nothing is
            compressed, so that a reader finds every row.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     replace_npz(f"{folder}/a.npz", x=(3, [np.array([1, 2]), np.array([3])]))
        ...     np.load(f"{folder}/a.npz")["x"].tolist()
        [1, 2, 3]
    """
    replace_atomically(path, lambda file: _write_npz(file, arrays))


def _write_npz(file: IO[bytes], arrays: dict[str, tuple[int, Iterable["np.ndarray"]]]) -> None:
    from numpy.lib.format import dtype_to_descr, write_array_header_1_0

    with zipfile.ZipFile(file, "w") as archive:
        for name, (rows, given) in arrays.items():
            parts = iter(given)
            first = next(parts)
            header = {"descr": dtype_to_descr(first.dtype), "fortran_order": False, "shape": (rows, *first.shape[1:])}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                write_array_header_1_0(member, header)
                for part in itertools.chain([first], parts):
                    member.write(part.tobytes())


def append_line(path: str | os.PathLike[str], text: str) -> None:
    """Append one line to a file; it is on the disk before this returns.

    A line is written at once, which other processes that append to the same file cannot split. What a kill cut off
    stays a line of its own.

    Args:
        path: of the file; it and its folder are made.
        text: without a line break.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     append_line(f"{folder}/log", "one")
        ...     append_line(f"{folder}/log", "two")
        ...     read_lines(f"{folder}/log")
        ['one', 'two']
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a+b", buffering=0) as file:
            left = (b"" if _is_whole(file) else b"\n") + f"{text}\n".encode()
            while left:  # a full disk takes a part, and raises the next time
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        if new:
            _flush_folder(path.parent)
    except OSError as error:
        raise _refusal(path, error) from error


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a file that :func:`append_line` wrote, none if there is no file; empty ones are left out.

    A line may be cut off, where its writer was killed: parse with that in mind.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = Path(path).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; make it readable, or move it away") from error
    return [line for line in text.split("\n") if line.strip()]


def _is_whole(file: IO[bytes]) -> bool:
    """Whether a file is empty or ends with a line break."""
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


class _Noting(io.FileIO):
    """A file to write that notes what the system refuses: libraries raise something else over it."""

    def __init__(self, path: Path, failed: list[OSError]) -> None:
        super().__init__(path, "w")
        self._failed = failed

    def write(self, content: bytes) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self._failed.append(error)
            raise


def _process() -> str:
    """This process among those of all machines that share the disk."""
    return f"{platform.node().replace('.', '_')}-{os.getpid()}"


def _remove_leftovers(folder: Path, name: str) -> None:
    """What processes of this machine were writing in place of a file when they were killed."""
    beginning = f".{name}.{_process().rpartition('-')[0]}-"
    with os.scandir(folder) as entries:
        names = [each.name for each in entries if each.name.startswith(beginning) and each.name.endswith(".tmp")]
    for left in names:
        process = left.removeprefix(beginning).removesuffix(".tmp")
        if process.isdecimal() and not _is_alive(int(process)):
            shutil.rmtree(folder / left) if (folder / left).is_dir() else (folder / left).unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _flush_folder(folder: Path) -> None:
    """Put the names of a folder's files on the disk, too; some network file systems cannot, and need not."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refusal(path: object, error: OSError) -> InputError:
    remedy = REMEDIES.get(error.errno, "choose another folder")
    return InputError(f"cannot write {path}: {os.strerror(error.errno) if error.errno else error}; {remedy}")
