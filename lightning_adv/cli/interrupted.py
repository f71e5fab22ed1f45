"""What a user is told after SIGTERM or Ctrl-C: where the run was, and the command that goes on with it."""

import os
import shlex
import subprocess
import sys

from lightning_adv.cli.arguments import without_option
from lightning_adv.cli.help import called
from lightning_adv.cli.runs import VARIABLE, is_first_rank
from lightning_adv.interruption import Interrupted

__all__ = ["go_on", "resuming_command", "tell_interrupted"]

LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID")
"""Variables of those that start a process for every rank; their own part of the command is not known here."""


def tell_interrupted(interruption: Interrupted, args: list[str]) -> int:
    """Say so in one line, once for all ranks; the exit status.

    Args:
        interruption: what ended the command.
        args: its command line without the program's name.
    """
    if is_first_rank():
        place = f" {interruption.place}" if interruption.place else ""
        sys.stderr.write(f"interrupted{place}{go_on(args)}\n")
        sys.stderr.flush()
        if interruption.requeue:
            _requeue()
    return interruption.status


def _requeue() -> None:
    """Put the job of SLURM that this run is back into the queue."""
    array = "SLURM_ARRAY_JOB_ID" in os.environ
    names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID") if array else ("SLURM_JOB_ID",)
    job = "_".join(os.environ[name] for name in names)
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"warning: job {job} is not back in the queue ({error}); submit it again\n")


def go_on(args: list[str]) -> str:
    """The end of a line that says how to go on; empty before the run has a folder, and where it leaves nothing."""
    folder = os.environ.get(VARIABLE)
    if not folder or any(arg.startswith("--trainer.fast_dev_run") for arg in args):
        return ""
    return f"; go on with: {resuming_command(args, folder)}"


def resuming_command(args: list[str], folder: str) -> str:
    """The command line that goes on with a run, as a shell takes it.

    Args:
        args: those of the run.
        folder: of the run.

    Example:
        >>> import sys
        >>> sys.argv[0] = "train.py"
        >>> resuming_command(["fit", "--config", "my demo.yaml", "--run=old"], "runs/demo")
        "python train.py fit --config 'my demo.yaml' --run runs/demo --ckpt_path last"
    """
    line = [*called(), *without_option(args, "--run"), "--run", folder]
    if args[:1] == ["fit"]:
        line = [*without_option(line, "--ckpt_path"), "--ckpt_path", "last"]
    if any(name in os.environ for name in LAUNCHERS):
        return "the same launcher, and " + shlex.join(line[1:] if line[0] == "python" else line)
    return shlex.join(line)
