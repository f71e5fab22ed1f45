"""What the machine refuses, in one line with what to do; anything else is a bug and keeps its traceback."""

import errno
import os
import re
import sys
from collections.abc import Iterator

from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_adv.cli.interrupted import go_on

__all__ = ["foreseen"]

REMEDIES = {
    errno.ENOSPC: "free space on that disk, or choose a folder on another one by --run",
    errno.EDQUOT: "free space within your quota, or choose a folder on another disk by --run",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EACCES: "make it accessible, or choose another",
    errno.EPERM: "make it accessible, or choose another",
    errno.EROFS: "choose a folder that you may write to by --run",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or lower data.num_workers",
}
GONE = re.compile(r"gloo/.*Connection (?:reset|closed) by peer|remote process exit", re.DOTALL)
"""What gloo and NCCL say when a process that they wait for has ended."""
PORT = re.compile(r"port: (\d+).*EADDRINUSE", re.DOTALL)


def foreseen(error: BaseException) -> str | None:
    """One line about an error that is the machine's, with its remedy; None for any other.

    Example:
        >>> foreseen(OSError(errno.EROFS, "Read-only file system", "runs/events"))
        'runs/events: Read-only file system; choose a folder that you may write to by --run'
        >>> foreseen(KeyError("no such key"))
    """
    for each in _causes(error):
        line = _line(each)
        if line is not None:
            return line
    return None


def _line(error: BaseException) -> str | None:
    text = str(error)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        named = error.filename2 or error.filename
        return f"{named}: {os.strerror(error.errno)}; {REMEDIES[error.errno]}".removeprefix("None: ")
    if GONE.search(text):
        return f"another process of the run is gone, perhaps killed (often a lack of memory){go_on(sys.argv[1:])}"
    if found := PORT.search(text):
        return f"port {found[1]} is in use: unset MASTER_PORT, or set it to a free one"
    if isinstance(error, MisconfigurationException):
        return _of_lightning(text)
    if type(error).__module__.partition(".")[0] == "wandb":
        said = re.split(r"\.\s|\n", text.strip() or type(error).__name__)[0].rstrip(".")
        return (
            f"Weights & Biases: {said}; log in by wandb login, or do without the network by "
            "--trainer.logger.offline=true"
        )
    return None


def _of_lightning(text: str) -> str:
    said = " ".join(text.split())
    if "No supported gpu backend found" in said or "Accelerator` can not run on your system" in said:
        return "this machine has no such device that torch can use: leave trainer.accelerator out, or set it to cpu"
    if found := re.match(r"You requested gpu: \[?([^]]*)\]? But your machine only has: \[?([^]]*)", said):
        there = found[2].strip() or "none"
        return f"trainer.devices asks for GPU {found[1]}, and this machine has {there}: ask for fewer"
    return said


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was raised from."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__
