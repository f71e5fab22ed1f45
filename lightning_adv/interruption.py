"""SIGTERM and Ctrl-C: noted at once, acted upon where nothing is lost.

A process is in one of three states. While it starts, a signal ends it at once: there is nothing to save. In a command
(:func:`heeding`) the first signal raises :class:`Interrupted` wherever the process is, so that it cleans up as after an
error. While training changes weights (:func:`hold`) the signal is only noted; whoever holds asks :func:`requested` at
the next place that a run can go on from. A second Ctrl-C ends the process in any state.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from time import monotonic
from types import FrameType
from typing import Literal, NoReturn

__all__ = [
    "LAUNCHER",
    "Interrupted",
    "die_with",
    "heed_signals",
    "heeding",
    "hold",
    "release",
    "requested",
    "seconds_since_start",
]

LAUNCHER = "LIGHTNING_ADV_LAUNCHER"
"""Number of the process that launched this one as another rank of its run."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SHOW_CURSOR = "\x1b[?25h"


class Interrupted(BaseException):
    """A signal asks the run to end; the entry points exit with 128 plus its number.

    Args:
        number: of the signal.

    Attributes:
        place: where the run was, in words; set by whoever knows.
        requeue: whether the job shall go back into SLURM's queue; set by whoever was asked.

    Example:
        >>> Interrupted(signal.SIGTERM).status
        143
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number, self.place, self.requeue = number, "", False

    @property
    def status(self) -> int:
        """Exit status of the process."""
        return 128 + self.number


@dataclass
class _State:
    """Of this process; a forked one inherits it and must not act upon it."""

    stage: Literal["starting", "running", "held"] = "starting"
    received: int | None = None
    leads: bool = True
    owner: int = 0
    started: float | None = None


_state = _State()


def heed_signals() -> None:
    """Take SIGTERM and Ctrl-C over; the first thing that a program does, before its slow imports.

    A process that was launched as another rank of a run also sees to it that it does not outlive the one that did so.
    """
    if LAUNCHER in os.environ:
        die_with(int(os.environ[LAUNCHER]))
    _state.started = monotonic()
    _install()


def seconds_since_start() -> float:
    """How long ago the program began to heed signals, its imports included; 0 in a process that is another's."""
    return 0.0 if _state.started is None else monotonic() - _state.started


@contextmanager
def heeding(leads: bool) -> Iterator[None]:
    """Within a command signals raise :class:`Interrupted`; after it they do what they did before.

    Args:
        leads: whether this is the first rank of its run. Others never end by themselves: they follow the first.
    """
    handlers, before = {each: signal.getsignal(each) for each in SIGNALS}, vars(_state).copy()
    _state.leads, _state.received = leads, None
    _install()
    _state.stage = "running"
    try:
        yield
    finally:
        vars(_state).update(before)
        if threading.current_thread() is threading.main_thread():
            for each, handler in handlers.items():
                signal.signal(each, signal.SIG_DFL if handler is None else handler)


def hold() -> None:
    """From here on only note a signal: the process is not at a place that it could go on from."""
    if _state.stage == "running":
        _state.stage = "held"


def release() -> None:
    """End :func:`hold`.

    Raises:
        Interrupted: a signal has come meanwhile, or was swallowed by somebody before.
    """
    if _state.stage == "held":
        _state.stage = "running"
    if _state.stage == "running" and _state.leads and _state.received is not None:
        raise Interrupted(_state.received)


def requested() -> int | None:
    """Number of the signal that asks this command to end, None if there was none."""
    return _state.received


def die_with(launcher: int) -> None:
    """Let the kernel kill this process when its launcher ends, however that ends; on Linux only."""
    import ctypes

    with suppress(AttributeError, OSError):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != launcher:  # it has ended already
        os._exit(1)


def _install() -> None:
    _state.owner = os.getpid()
    _watch_forks()
    if threading.current_thread() is threading.main_thread():  # Python lets no other thread do so
        for each in SIGNALS:
            if signal.getsignal(each) is not signal.SIG_IGN:  # nohup, or a shell's background job
                signal.signal(each, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _state.owner:
        _as_a_worker(number)
        return
    if number == signal.SIGINT and LAUNCHER in os.environ:
        return  # a terminal sends it to every rank; the first one ends the others
    first, _state.received = _state.received is None, _state.received or number
    if _state.stage == "starting" or (number == signal.SIGINT and not first):
        _end_at_once(number)
    if first and LAUNCHER in os.environ:
        with suppress(OSError):
            os.kill(os.getppid(), number)
    if first and _state.leads and _state.stage == "running":
        raise Interrupted(number)


@cache
def _watch_forks() -> None:
    if sys.platform == "linux":  # others do not tell who sent a signal
        os.register_at_fork(after_in_child=_serve)


def _serve() -> None:
    """In a forked worker: only its owner ends it, who is ended gently and may need it until then.

    A cluster sends SIGTERM to all processes of a job, and a run whose workers are gone could not finish its step. A
    signal's handler is not told the sender, and torch puts one of its own into its workers.
    """
    if _state.stage == "starting":
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True, name="signals").start()


def _end_with(owner: int) -> NoReturn:
    while os.getppid() == owner and signal.sigwaitinfo({signal.SIGTERM}).si_pid != owner:
        pass
    os._exit(0)


def _as_a_worker(number: int) -> None:
    """A forked worker serves until its owner ends it: the owner of a terminal's Ctrl-C is not the worker."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _end_at_once(number: int) -> NoReturn:
    if sys.stderr is not None and sys.stderr.isatty():
        os.write(sys.stderr.fileno(), SHOW_CURSOR.encode())  # a progress display hides it
    os._exit(128 + number)
