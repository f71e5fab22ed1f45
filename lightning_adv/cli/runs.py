"""The folder of a run: where its configuration, checkpoints, logs and report go."""

import os
from datetime import datetime
from pathlib import Path

from lightning_adv.errors import InputError

__all__ = ["choose_run_folder", "find_last_checkpoint"]

VARIABLE = "LIGHTNING_ADV_RUN_FOLDER"
"""Tells the processes that Lightning launches for other ranks what rank zero chose."""

ROOT = Path("runs")


def choose_run_folder(given: str | None, name: str, resume: bool) -> Path:
    """The folder of this run, the same for every rank.

    Args:
        given: what the user asked for with ``--run``.
        name: of the configuration; the default is ``runs/<name>/<date and time>``.
        resume: go on with the run in ``given``, or with the newest under ``runs/<name>``.

    Raises:
        InputError: ``given`` holds another run that would be overwritten; or ranks that somebody else started
            (torchrun, srun) cannot know a common default.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    folder = _choose(given, name, resume)
    os.environ[VARIABLE] = str(folder)
    return folder


def find_last_checkpoint(folder: Path) -> Path | None:
    """``checkpoints/last.ckpt`` of a run, None if it has not got that far."""
    path = folder / "checkpoints" / "last.ckpt"
    return path if path.is_file() else None


def _choose(given: str | None, name: str, resume: bool) -> Path:
    if given is not None:
        folder = Path(given)
        if not resume and find_last_checkpoint(folder) and _rank() == 0:
            raise InputError(
                f"--run {folder} holds a run already: resume it by --ckpt_path last, or name another folder"
            )
        return folder
    if resume:
        earlier = sorted((ROOT / name).glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
        if earlier:
            return earlier[-1].parent.parent
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 or int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none")
        if job == "none":
            raise InputError("processes started by torchrun need a common folder: add --run FOLDER")
        return ROOT / name / job
    return ROOT / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _rank() -> int:
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", 0))))
