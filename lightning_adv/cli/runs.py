"""The folder of a run: where its configuration, checkpoints, logs and report go."""

import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from lightning_adv.cli.help import as_called
from lightning_adv.cli.lock import unlock_folder
from lightning_adv.errors import InputError
from lightning_adv.names import key_path

__all__ = [
    "VARIABLE",
    "choose_run_folder",
    "find_last_checkpoint",
    "is_first_rank",
    "leave_run_folder",
    "newest_checkpoint",
    "tell",
]

VARIABLE = "LIGHTNING_ADV_RUN_FOLDER"
"""Tells the processes that Lightning launches for other ranks what rank zero chose."""

ROOT = Path("runs")


def choose_run_folder(given: str | None, name: str, resume: bool) -> Path:
    """The folder of this run, the same for every rank. :func:`leave_run_folder` must follow in the end.

    Args:
        given: what the user asked for with ``--run``.
        name: of the configuration; the default is ``runs/<name>/<date and time>``.
        resume: go on with the run in ``given``, or with the newest under ``runs/<name>``.

    Raises:
        InputError: the folder holds another run that would be overwritten; or ranks that somebody else started
            (torchrun, srun) cannot know a common default.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    folder = _choose(given, key_path(name), resume)
    if not resume and is_first_rank() and find_last_checkpoint(folder):
        raise InputError(
            f"{folder} holds a run already: resume it by --ckpt_path last, or name another folder by --run"
        )
    os.environ[VARIABLE] = str(folder)
    return folder


def leave_run_folder() -> None:
    """Forget the choice, so that another run in the same process makes its own; nothing empty is left behind."""
    unlock_folder()
    folder = os.environ.pop(VARIABLE, None)
    if folder and is_first_rank():
        with suppress(OSError):  # what holds files is not removed
            Path(folder).rmdir()
            Path(folder).parent.rmdir()


def find_last_checkpoint(folder: Path) -> Path | None:
    """``checkpoints/last.ckpt`` of a run, None if it has not got that far."""
    path = folder / "checkpoints" / "last.ckpt"
    return path if path.is_file() else None


def newest_checkpoint() -> Path:
    """That of the run under ``runs/`` which saved last, whatever its name and however deep its folder.

    Raises:
        InputError: there is none.
    """
    paths = sorted(ROOT.glob("**/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise InputError(f"there is no checkpoint in {ROOT}/ yet: train a model, or give its path by --ckpt_path")
    return paths[-1]


def is_first_rank() -> bool:
    """Whether this is the process with rank zero, as far as its environment tells."""
    return int(next((os.environ[key] for key in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if key in os.environ), 0)) == 0


def tell(message: str) -> None:
    """One line to the user, from one process."""
    if is_first_rank():
        print(message, file=sys.stderr, flush=True)


def _choose(given: str | None, name: str, resume: bool) -> Path:
    if given is not None:
        return Path(given)
    if resume:
        earlier = sorted((ROOT / name).glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
        if earlier:
            return earlier[-1].parent.parent
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 or int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none")
        if job == "none":
            example = as_called("torchrun OPTIONS -- train.py COMMAND --run FOLDER (note the --)")
            raise InputError(f"processes need a common folder: {example}")
        return ROOT / name / job
    return _new_folder(ROOT / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))


def _new_folder(wanted: Path) -> Path:
    """Make ``wanted``, with a number behind it if another process took it in the same second."""
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}_{number}")
        else:
            return folder
