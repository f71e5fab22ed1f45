"""The other ranks that a run launches on its machine live no longer than the first, and none is lost in silence."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.trainer.connectors.signal_connector import _get_sigkill_signal

from lightning_adv.cli.interrupted import go_on
from lightning_adv.errors import InputError, RankLost
from lightning_adv.interruption import LAUNCHER, requested

__all__ = ["RankLauncher", "ended", "keep_ranks"]

Result = TypeVar("Result")
GRACE = 5.0
"""Seconds in which processes may end by themselves: the first rank after another one is lost, the others after it."""
TELLING = 60.0
"""Seconds for the report of a run that has lost a rank."""
SETTLING = 2.0
"""Seconds between the end of a rank's connections and that of its process."""
INTERVAL = 0.2


def ended(lost: str, args: list[str]) -> str:
    """The line that a run ends with when it has lost a rank.

    Args:
        lost: which one, and how.
        args: the command line without the program's name.
    """
    return f"error: {lost}; the others are ended{go_on(args)}\n"


def keep_ranks(trainer: Trainer) -> None:
    """Let a trainer launch its ranks by :class:`RankLauncher` where it would launch them itself."""
    launcher = trainer.strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        trainer.strategy._launcher = RankLauncher(
            launcher.cluster_environment, launcher.num_processes, launcher.num_nodes
        )


class RankLauncher(_SubprocessScriptLauncher):
    """Launches a process for each further rank; when one is lost the run ends with its name, not after a time-out.

    The kernel ends the launched processes when this one is killed; see ``lightning_adv.interruption``.
    """

    def launch(
        self, function: Callable[..., Result], *args: object, trainer: Trainer | None = None, **kwargs: object
    ) -> Result:
        """Call ``function`` on this rank once the others are launched.

        Raises:
            RankLost: another rank ended with an error.
        """
        if self.cluster_environment.creates_processes_externally:
            return super().launch(function, *args, trainer=trainer, **kwargs)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        os.environ[LAUNCHER] = str(os.getpid())
        try:
            self._call_children_scripts()
        finally:
            del os.environ[LAUNCHER]
        done = threading.Event()
        threading.Thread(target=self._watch, args=(trainer, done), daemon=True, name="ranks").start()
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            done.set()
            lost = "" if isinstance(error, InputError) else self._lost(SETTLING)
            if lost and requested() is None:
                raise RankLost(lost) from error
            raise
        else:
            done.set()
            _wait(self.procs, GRACE)
            return result
        finally:
            done.set()
            self.kill(_get_sigkill_signal())
            _wait(self.procs, GRACE)

    def _watch(self, trainer: Trainer | None, done: threading.Event) -> None:
        """End this process if it does not notice by itself that another one is lost: it may wait for it for ever."""
        while not done.wait(INTERVAL):
            lost = self._lost()
            if not lost or requested() is not None:
                continue
            noticed = done.wait(GRACE) or (trainer is not None and trainer.interrupted and done.wait(TELLING))
            if not noticed:
                self.kill(_get_sigkill_signal())
                sys.stderr.write(ended(lost, sys.argv[1:]))
                sys.stderr.flush()
                os._exit(1)

    def _lost(self, seconds: float = 0.0) -> str:
        """The first rank that has ended with an error, and how; empty if there is none."""
        _wait([each for each in self.procs if each.poll() is None][:1], seconds)
        first = self.cluster_environment.node_rank() * self.num_processes + 1
        for rank, process in enumerate(self.procs, start=first):
            if process.poll():
                return f"rank {rank} {_how(process.returncode)}"
        return ""


def _wait(processes: Sequence[subprocess.Popen], seconds: float) -> None:
    """Wait until processes have ended, so long at most."""
    deadline = time.monotonic() + seconds
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))


def _how(status: int) -> str:
    if status > 0:
        return f"ended with status {status}, which it has explained itself"
    name = signal.Signals(-status).name
    why = " (often a lack of memory)" if name == "SIGKILL" else ""
    return f"was killed by {name}{why}"
