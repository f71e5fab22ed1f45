"""One run at a time in a folder: a lock that the kernel takes back from a process that is killed."""

import errno
import os
import platform
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from lightning_adv.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where folders stay unguarded
    fcntl = None

__all__ = ["NAME", "lock_folder", "unlock_folder"]

NAME = "run.lock"
TAKEN = (errno.EACCES, errno.EAGAIN)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems without locks answer."""

_held: dict[Path, int] = {}


def lock_folder(folder: Path) -> None:
    """Keep other processes out of a run's folder, until :func:`unlock_folder` or the end of this process.

    The lock is this process's alone: neither the workers that it forks nor the ranks that it launches have it. Across
    the machines of a network file system it holds as far as that file system keeps locks.

    Args:
        folder: made if there is none.

    Raises:
        InputError: another process has it, or it cannot be written.
    """
    if fcntl is None or folder in _held:
        return
    path = folder / NAME
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written: {os.strerror(error.errno)}; name another folder by --run"
            ) from error
        if _is_locked(descriptor, folder) and _is_at(descriptor, path):
            break
        os.close(descriptor)  # its holder took the file away when it ended
    _held[folder] = descriptor
    with suppress(OSError):  # a full disk: whoever comes second is told less
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, f"process {os.getpid()} on {platform.node()} since {datetime.now():%Y-%m-%d %H:%M}".encode()
        )


def unlock_folder() -> None:
    """Let others into the folders that this process keeps; one that holds nothing else goes."""
    while _held:
        folder, descriptor = _held.popitem()
        with suppress(OSError):
            (folder / NAME).unlink()
        os.close(descriptor)
        with suppress(OSError):  # what holds files is not removed
            folder.rmdir()


def _is_locked(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in UNKNOWN:
            return True
        holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
        os.close(descriptor)
        if error.errno not in TAKEN:
            raise InputError(f"{folder} cannot be locked: {os.strerror(error.errno)}") from error
        raise InputError(f"{folder} is in use by {holder}; wait for it, or name another folder by --run") from error
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a name still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
