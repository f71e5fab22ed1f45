"""Processes that start warm: forked from one that has imported torch, Lightning and the package and parsed a command.

That is most of what a short run takes. A warm process does what ``python script.py`` does after it: it has that
command's arguments, folder, variables, standard files, exit status and parent; it leads a session of its own and heeds
Ctrl-C. A run of two ranks starts its second one warm, too. ``tests/test_warm.py`` compares one with a cold one.
"""

import ctypes
import gc
import io
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.data._utils import worker as loading

__all__ = ["HEIRS", "Warm"]

ROOT = Path(__file__).parent.parent
IMPORTED = (
    *(
        "lightning_adv.cli.entry",
        "lightning_adv.callbacks",
        "lightning_adv.models.factory",
        "lightning_adv.reports.html",
    ),
    *("lightning_adv.reports.html", "torch.utils.tensorboard", "matplotlib.backends.backend_agg", "mlxtend.data"),
)
OF_TWO_RANKS = "--trainer.devices=2"
HEIRS = "TESTS_HEIRS"
"""Variable of a command: how many scripts it starts itself, which start warm, too."""
ADOPT_ORPHANS = 36
"""``PR_SET_CHILD_SUBREAPER`` of prctl(2)."""
PAUSE = 0.2
"""Seconds after which a process that loads images sees that its parent is gone; else five."""
LONGEST = 1 << 17
"""Bytes of a command with its variables."""

UNBUFFERED = "-u"
"""What torchrun adds; it tells nothing of the results."""

_heirs: list[socket.socket] | None = None
"""In a warm process, the ways to the children that wait to be its next ones; None in all others."""

_of_imports: dict[str, str] = {}
"""Variables that importing sets where nobody else does."""
_folders: list[TemporaryDirectory] = []
"""Temporary folders of imported modules."""


class Warm(subprocess.Popen):
    """``subprocess.Popen`` that starts Python's scripts warm on Linux, and everything else as ever.

    A warm one needs no ``start_new_session`` and no ``preexec_fn`` to lead a session and to heed Ctrl-C.
    """

    def _execute_child(self, args: list, *rest: object) -> None:
        place = _place_to_fork(args)
        if place is None:
            super()._execute_child(args, *rest)
            return
        folder, variables, pipes, leads = rest[4], rest[5], rest[9:15], rest[20]
        command = {
            "args": [str(each) for each in args[1:] if each != UNBUFFERED],
            "folder": str(folder or os.getcwd()),
            "variables": dict(os.environ if variables is None else variables),
            "leads": leads,
        }
        files = [own if given == -1 else given for own, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        with _adopting_orphans():
            socket.send_fds(place, [json.dumps(command).encode()], files)
            number = place.recv(20)
        if not number:
            raise OSError("the process that starts others warm has ended")
        self.pid, self._child_created = int(number), True
        self._close_pipe_fds(*pipes)


def _place_to_fork(args: list) -> socket.socket | None:
    """The way to the process that is to become this command, None where it starts cold."""
    script = next((str(each) for each in args[1:] if each != UNBUFFERED), "")
    if sys.platform != "linux" or args[0] != sys.executable or not script.endswith(".py"):
        return None
    if _heirs is None:
        return _nursery()[0]
    return _heirs.pop() if _heirs else None


@cache
def _nursery() -> tuple[socket.socket, subprocess.Popen]:
    """The way to a process that has imported everything, and that ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = [sys.executable, "-m", "tests.warm", str(theirs.fileno())]
    options = {"cwd": ROOT, "pass_fds": [theirs.fileno()], "stdin": subprocess.DEVNULL, "start_new_session": True}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # each command has its own
    process = subprocess.Popen(line, env=variables | {"OMP_NUM_THREADS": "1"}, **options)
    theirs.close()
    return ours, process


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """A grandchild whose parent ends meanwhile becomes a child of this process, which can wait for it then."""
    prctl = ctypes.CDLL(None).prctl
    prctl(ADOPT_ORPHANS, 1)
    try:
        yield
    finally:
        prctl(ADOPT_ORPHANS, 0)


def _nurse(place: socket.socket) -> tuple[dict, list[int]]:
    """Fork a process for each command that comes; returns in each of them, with its command and its standard files."""
    before = dict(os.environ)
    for name in IMPORTED:
        import_module(name)
    _parse_once()
    os.fsync = lambda descriptor: None  # nobody cuts the power
    loading.MP_STATUS_CHECK_INTERVAL = PAUSE
    _of_imports.update({name: value for name, value in os.environ.items() if before.get(name) != value})
    gc.collect()
    # Made by an import, removed at the end of whoever ends first: every process makes them anew.
    _folders.extend(each for each in gc.get_objects() if type(each) is TemporaryDirectory)
    for folder in _folders:
        folder.cleanup()
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the other threads"
    while True:
        message, files, _, _ = socket.recv_fds(place, LONGEST, 3)
        if not message:
            os._exit(0)
        adopted, adopt = os.pipe()
        if between := os.fork():
            os.waitpid(between, 0)
            for each in (adopted, adopt, *files):
                os.close(each)
        elif os.fork():
            os._exit(0)  # which makes its child an orphan
        else:
            os.close(adopt)
            os.read(adopted, 1)
            os.close(adopted)
            os.setsid()
            place.send(str(os.getpid()).encode())
            place.close()
            return json.loads(message), files


def _parse_once() -> None:
    """Let the parser look up what it keeps of the signatures of classes."""
    from lightning_adv.cli import CLI
    from lightning_adv.cli.help import PAGES, TRAIN

    configuration = str(ROOT / "configs" / "demo.yaml")
    with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()), suppress(SystemExit):
        CLI(["fit", "--config", configuration, "--print_config"], "none", {"program": TRAIN, **PAGES})


def _leave_heirs(count: int, files: list[int]) -> tuple[dict, list[int]] | None:
    """Fork children that wait to become the scripts that this process starts; returns with that in each of them."""
    global _heirs
    heirs = []
    for _ in range(count):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            theirs.close()
            heirs.append(ours)
            continue
        for each in (ours, *heirs):
            each.close()
        for each in files:
            os.close(each)
        message, files, _, _ = socket.recv_fds(theirs, LONGEST, 3)
        if not message:
            os._exit(0)
        command = json.loads(message)
        if command["leads"]:
            os.setsid()
        theirs.send(str(os.getpid()).encode())
        theirs.close()
        return command, files
    if heirs:
        _heirs, subprocess.Popen = heirs, Warm
    return None


def _become(command: dict, files: list[int]) -> str:
    """Take over what a command is given; its script."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(_of_imports | command["variables"])
    tempfile.tempdir = None  # what an import has asked for
    os.chdir(command["folder"])
    random.seed()
    np.random.seed()  # noqa: NPY002
    torch.seed()
    sys.argv[:] = command["args"]
    for folder in _folders:
        folder.__init__()
    added = filter(None, command["variables"].get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [os.path.dirname(os.path.abspath(sys.argv[0])), *dict.fromkeys([*added, *sys.path[1:]])]
    return sys.argv[0]


if __name__ == "__main__":
    _command, _files = _nurse(socket.socket(fileno=int(sys.argv[1])))
    _count = int(_command["variables"].pop(HEIRS, OF_TWO_RANKS in _command["args"]))
    _command, _files = _leave_heirs(_count, _files) or (_command, _files)
    runpy.run_path(_become(_command, _files), run_name="__main__")
