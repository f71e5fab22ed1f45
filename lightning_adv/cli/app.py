"""``train.py`` and ``evaluate.py``: LightningCLI with this project's classes, names and manners."""

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

import lightning_adv.attacks
import lightning_adv.data
import lightning_adv.modules
import lightning_adv.objectives  # noqa: F401 - a class is found by its short name only once it is imported
from lightning_adv.callbacks import EpochLine, LastCheckpoint, RunRecord
from lightning_adv.cli.checkpoints import arguments_from_checkpoint
from lightning_adv.cli.parser import Parser
from lightning_adv.cli.runs import choose_run_folder, find_last_checkpoint
from lightning_adv.errors import InputError

__all__ = ["CLI", "evaluate", "train"]

FROM_DATA = ("num_classes", "in_channels", "image_size", "mean", "std")
"""Arguments of a module that describe the data and are taken from the datamodule."""

REPORT = {"class_path": "lightning_adv.callbacks.Report", "init_args": {"title": None}}


class CLI(LightningCLI):
    """LightningCLI in subclass mode for model and data; see ``train.py fit --help``."""

    def __init__(self, args: list[str], name: str) -> None:
        self.name = name
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunRecord,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={"allow_abbrev": False},
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """The run's folder, the resumable checkpoint, and the links from data to model."""
        parser.add_argument(
            "--run",
            type=str | None,
            default=None,
            help="Folder of this run: configuration, checkpoints, logs, report (default: runs/<config>/<time>).",
        )
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        for key in FROM_DATA:
            parser.link_arguments(f"data.{key}", f"model.init_args.{key}", apply_on="instantiate")

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        """Parse what :func:`train` prepared; the base class warns that ``sys.argv`` is there too."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Nothing: the base class lets a checkpoint override what the user typed; here it gives the defaults."""

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, and refuse what would be ignored silently."""
        config = self.config[self.subcommand]
        for key in FROM_DATA:
            if config.get(f"model.init_args.{key}") is not None:
                raise InputError(f"model.{key} is taken from the data; leave it out and set the data instead")
        resume = config.get("ckpt_path") == "last"
        self.folder = choose_run_folder(config.run, self.name, resume=resume)
        if resume:
            last = find_last_checkpoint(self.folder)
            config.ckpt_path = str(last) if last else None
            if last is None:
                print(f"no checkpoint in {self.folder} yet: starting from the beginning", file=sys.stderr)
        for logger in _logger_configs(config.get("trainer.logger")):
            if logger.init_args.get("save_dir") in (None, "."):
                logger.init_args.save_dir = str(self.folder)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; a constructor's complaint is the user's to read."""
        try:
            super().instantiate_classes()
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"the configuration cannot be built: {error}") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with this project's defaults: its folder, CSV and TensorBoard logs, bars on a terminal only."""
        config = self._get(self.config_init, "trainer")
        callbacks = config.callbacks = _as_list(config.callbacks)
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.folder / "checkpoints")
        if config.logger in (None, True) and not config.fast_dev_run:
            config.logger = [
                TensorBoardLogger(str(self.folder), name="", version=""),
                CSVLogger(str(self.folder), name="csv"),  # a resumed run must not delete the rows of its start
            ]
        terminal = sys.stdout.isatty()
        if config.enable_progress_bar is None:
            config.enable_progress_bar = terminal
        if not config.enable_progress_bar:
            callbacks.append(EpochLine())
        elif not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(RichProgressBar())
        if config.enable_model_summary is None:
            config.enable_model_summary = terminal
        # ``last.ckpt`` is always kept; Lightning's own default would keep a second copy of it.
        config.enable_checkpointing = any(isinstance(callback, ModelCheckpoint) for callback in callbacks) or None
        config.default_root_dir = str(self.folder)
        return super().instantiate_trainer(**kwargs)


def train(args: list[str] | None = None) -> None:
    """Entry point of ``train.py``: fit, validate, test or predict.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
    """
    args = sys.argv[1:] if args is None else args
    _guard(lambda: CLI(_with_checkpoint(args, with_callbacks=False), _name(args)))


def evaluate(args: list[str] | None = None, default_config: Path | None = None) -> None:
    """Entry point of ``evaluate.py``: the evaluation callbacks on a checkpoint or on bare weights.

    Without ``--config`` the evaluations are those that the model was trained with; where there are none,
    ``default_config``.

    Args:
        args: the command line without the program's name; default ``sys.argv``.
        default_config: YAML with the standard evaluations.
    """
    args = sys.argv[1:] if args is None else args
    _guard(lambda: CLI(_evaluation_arguments(args, default_config), _name(args, "evaluate")))


def _guard(run: Callable[[], object]) -> None:
    """Print a user's mistake as one line and exit with status 2."""
    _quiet()
    try:
        run()
    except InputError as error:
        sys.exit(_fail(str(error)))


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


def _quiet() -> None:
    """Silence what a user can do nothing about, and Lightning's small talk."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.trainer", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*jsonargparse.*", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*litlogger.*")


def _evaluation_arguments(args: list[str], default_config: Path | None) -> list[str]:
    if any(arg in ("-h", "--help") or arg.startswith("--print_config") for arg in args):
        return ["test", *args]
    if not _option(args, "--ckpt_path"):
        raise InputError("evaluate.py needs --ckpt_path FILE: a checkpoint, or bare weights with --model.backbone=NAME")
    own_config = _option(args, "--config") or _option(args, "-c")
    args = _with_checkpoint(["test", *args], with_callbacks=own_config is None)
    has_callbacks = own_config is not None or _has_callbacks(args)
    if not has_callbacks and default_config is not None:
        args = ["test", "--config", str(default_config), *args[1:]]
    return args


def _has_callbacks(args: list[str]) -> bool:
    config = _option(args, "--config")
    return config is not None and "callbacks:" in Path(config).read_text()


def _with_checkpoint(args: list[str], with_callbacks: bool) -> list[str]:
    """Put what a checkpoint says of itself before the user's own arguments; ``fit`` and ``last`` need nothing."""
    path = _option(args, "--ckpt_path")
    if path in (None, "last", "best", "null") or not args:
        return args
    if args[0] == "fit":
        arguments_from_checkpoint(path, with_callbacks=False, report=REPORT)  # refuse a bad file now
        return args
    extra, is_checkpoint = arguments_from_checkpoint(path, with_callbacks, REPORT)
    if is_checkpoint:
        return [args[0], *extra, *args[1:]]
    bare = [arg for i, arg in enumerate(args) if not _names_checkpoint(args, i)]
    model = [] if _option(args, "--model") or _option(args, "--config") else ["--model=ClassifierModule"]
    return [bare[0], *model, *bare[1:], *extra]


def _names_checkpoint(args: list[str], position: int) -> bool:
    here, before = args[position], args[position - 1] if position else ""
    return here.startswith("--ckpt_path=") or "--ckpt_path" in (here, before)


def _option(args: list[str], option: str) -> str | None:
    """Value of ``--option value`` or ``--option=value``, the last one given."""
    found = None
    for position, arg in enumerate(args):
        if arg == option and position + 1 < len(args):
            found = args[position + 1]
        elif arg.startswith(f"{option}="):
            found = arg.partition("=")[2]
    return found


def _name(args: list[str], prefix: str | None = None) -> str:
    """Name of the run: that of its first configuration."""
    source = next((args[i + 1] for i, arg in enumerate(args[:-1]) if arg in ("--config", "-c")), None)
    source = source or next((arg.partition("=")[2] for arg in args if arg.startswith("--config=")), None)
    stem = Path(source).stem if source else "run"
    if prefix is None and args and args[0] != "fit":
        prefix = args[0]
    return f"{prefix}_{stem}" if prefix else stem


def _as_list(callbacks: object) -> list:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def _logger_configs(loggers: object) -> list[Namespace]:
    configs = loggers if isinstance(loggers, list) else [loggers]
    return [each for each in configs if isinstance(each, Namespace) and "init_args" in each]
