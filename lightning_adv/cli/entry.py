"""The entry points of ``train.py`` and ``evaluate.py``."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import yaml

from lightning_adv.cli.allowed_classes import check_trusted, imports_limited_to
from lightning_adv.cli.app import CLI
from lightning_adv.cli.arguments import check_config_files, config_files, option, options, without_option
from lightning_adv.cli.checkpoints import Described, describe_checkpoint
from lightning_adv.cli.configs import shipped, with_files
from lightning_adv.cli.document import JSON, document_alone
from lightning_adv.cli.foreseen import foreseen
from lightning_adv.cli.help import AUDIT, EVALUATE, PAGES, TRAIN, as_called
from lightning_adv.cli.interrupted import tell_interrupted
from lightning_adv.cli.loggers import finish_wandb
from lightning_adv.cli.ranks import GRACE, ended
from lightning_adv.cli.refused import refuse_code
from lightning_adv.cli.restoring import from_restoring
from lightning_adv.cli.runs import VARIABLE, is_first_rank, leave_run_folder, newest_checkpoint, tell
from lightning_adv.errors import HoldsCode, InputError, RankLost
from lightning_adv.interruption import LAUNCHER, Interrupted, heeding
from lightning_adv.models.folders import is_onnx
from lightning_adv.models.zoo import zoo_names

__all__ = ["audit", "evaluate", "quiet", "train"]

KEYWORDS = (None, "last", "null")
"""Values of ``--ckpt_path`` that are no file."""

REPORT = {"class_path": "Report"}
USUAL = {"evaluate": "evaluate/standard", "audit": "evaluate/audit"}
"""Names of the configurations that the commands use where nothing else is said."""
SCORES = "evaluate/audit_scores"
"""That of an audit of a network that gives answers and no gradients."""


def train(args: list[str]) -> None:
    """Fit, validate or test; ``front.train`` is the program's entry point.

    Args:
        args: the command line without the program's name.
    """
    _run(args, _train)


def evaluate(args: list[str]) -> None:
    """Evaluate; ``front.evaluate`` is the program's entry point.

    Args:
        args: the command line without the program's name.
    """
    _run(args, _evaluate)


def audit(args: list[str]) -> None:
    """Audit; ``front.audit`` is the program's entry point.

    Args:
        args: the command line without the program's name.
    """
    _run(args, _audit)


def _train(args: list[str]) -> CLI:
    command, path = next(iter(args), "fit"), option(args, "--ckpt_path")
    name = Path(next(iter(config_files(args)), "run")).stem
    pages = {"program": TRAIN, **PAGES}
    if command == "fit" and path == "last" and not config_files(args) and option(args, "--model") is None:
        run = option(args, "--run") or newest_checkpoint().parent.parent
        again = as_called(f"python train.py fit --config {run}/config.yaml --run {run} --ckpt_path last")
        raise InputError(f"a run goes on with the configuration that it has: {again}")
    if command == "fit" or path in KEYWORDS:
        return CLI(args, name if command == "fit" else f"{command}/{name}", pages)
    trusted, args = _trusted(args)
    described = _described(path, trusted)
    name = name if config_files(args) else _origin(Path(path))
    with imports_limited_to(trusted, args, config_files(args)):
        return CLI(args, f"{command}/{name}", pages, described.config)


def _audit(args: list[str]) -> CLI:
    if _asks_for_help(args):
        return CLI(["test", *args], "audit", {"program": AUDIT, **PAGES, "test": AUDIT})
    if not args or args[0].startswith("-"):
        example = as_called("python audit.py FILE --model.backbone=NAME --data=DATA")
        raise InputError(f"an audit needs a file first: {example}")
    path, *args = args
    trusted, rest = _trusted(args)
    refuse_code(path, trusted, option(rest, "--run"), f"audit/{_origin(Path(path))}")
    minutes = option(args, "--budget")
    args = without_option(args, "--budget")
    chosen = [] if minutes is None else [f"--trainer.callbacks.minutes={minutes}"]
    return _evaluate([f"--ckpt_path={path}", *args, *chosen], "audit")


def _asks_for_help(args: list[str]) -> bool:
    return any(arg in ("-h", "--help") or ".help" in arg for arg in args)


def _evaluate(args: list[str], name: str = "evaluate") -> CLI:
    pages = {"program": EVALUATE, **PAGES, "test": EVALUATE}
    if _asks_for_help(args):
        return CLI(["test", *args], "evaluate", pages)
    path = option(args, "--ckpt_path") or option(args, "--model.weights")
    if path is None:
        raise InputError(
            "an evaluation needs --ckpt_path FILE: a checkpoint, bare weights with --model.backbone=NAME, or a network "
            f"that comes with the program ({', '.join(zoo_names())})"
        )
    if path == "last":
        path = str(newest_checkpoint())
        args = [*without_option(args, "--ckpt_path"), f"--ckpt_path={path}"]
        tell(f"note: the last checkpoint is {path}")
    trusted, args = _trusted(args)
    described = _described(path, trusted)
    args = ["test", *(args if described.is_checkpoint else without_option(args, "--ckpt_path"))]
    of_training = described.evaluations and name == "evaluate"
    usual = SCORES if name == "audit" and is_onnx(path) else USUAL[name]
    evaluations = [REPORT, *described.evaluations] if of_training else _callbacks(usual)
    base = {**described.config, "trainer": {"callbacks": evaluations}}
    files = config_files(args)
    with imports_limited_to(trusted, args, files) if described.is_checkpoint else nullcontext():
        return CLI(args, f"{name}/{_origin(Path(path))}", pages, base, evaluates=True)


def _trusted(args: list[str]) -> tuple[list[str], list[str]]:
    """What the user lets a checkpoint name, and the command line without it."""
    return check_trusted(options(args, "--trust")), without_option(args, "--trust")


def _described(path: str, trusted: list[str]) -> Described:
    """What a checkpoint says of itself; tell which of it is not done."""
    described = describe_checkpoint(path, trusted)
    for name in (ascii(each)[1:-1] for each in described.left_out):  # a stranger's words, in one line
        tell(f"note: {name} of the checkpoint is left out, as only you say what is written where: --{name}=...")
    return described


def _callbacks(config: str) -> list[dict]:
    return yaml.safe_load(shipped(config).read_text(encoding="utf-8"))["trainer"]["callbacks"]


def _origin(path: Path) -> str:
    """The run that a checkpoint comes from, or the name of the file."""
    path = Path(os.path.abspath(path))
    return path.parent.parent.name if path.parent.name == "checkpoints" else path.stem


def _run(args: list[str], command: Callable[[list[str]], CLI]) -> None:
    """Run a command; print a user's mistake, or how to go on after a signal, as one line; exit with its status."""
    quiet()
    with document_alone(JSON in args and is_first_rank()) as reports:
        _run_aloud(args, command, reports)


def _run_aloud(args: list[str], command: Callable[[list[str]], CLI], reports: list[Path]) -> None:
    try:
        with heeding(leads=is_first_rank()):
            read = with_files(args)
            check_config_files(read)
            reports += command(read).reports
    except Interrupted as interruption:
        sys.exit(tell_interrupted(interruption, args))
    except InputError as error:
        _wait_for_the_first_rank()
        if isinstance(error, HoldsCode) and VARIABLE in os.environ:
            reports.append(Path(os.environ[VARIABLE]) / "report")
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.status)
    except RankLost as error:
        sys.stderr.write(ended(str(error), args))
        sys.exit(1)
    except Exception as error:
        message = foreseen(error) or from_restoring(error)
        if message is None:
            raise
        _wait_for_the_first_rank()
        sys.stderr.write(f"error: {message}\n")
        sys.exit(2)
    else:
        finish_wandb()
    finally:
        leave_run_folder()


def _wait_for_the_first_rank() -> None:
    """A mistake that all ranks make is the first one's to tell: it ends this one meanwhile."""
    if LAUNCHER in os.environ:
        threading.Event().wait(GRACE)


def quiet() -> None:
    """Silence what a user can do nothing about, and Lightning's small talk."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.trainer", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Lightning's outdated calls of jsonargparse, whose warnings are indented paragraphs.
    warnings.filterwarnings("ignore", message=r"(?s)\n\s+.*deprecat", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*litlogger.*")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")  # evaluations may be exchanged
