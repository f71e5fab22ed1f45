"""``train.py`` and ``evaluate.py``: LightningCLI with this project's classes, names and manners."""

import os
import sys
import tempfile
from argparse import SUPPRESS
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from jsonargparse import Namespace
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.nn.parameter import is_lazy

import lightning_adv.attacks
import lightning_adv.data
import lightning_adv.objectives  # noqa: F401 - a class is found by its short name only once it is imported
from lightning_adv.callbacks import (
    Bars,
    EpochLine,
    LastCheckpoint,
    Report,
    ResultLines,
    RunRecord,
    StopOnSignal,
    TimeBudget,
)
from lightning_adv.cli.arguments import own_architecture, through_first_config
from lightning_adv.cli.budgets import unfollowed_budget
from lightning_adv.cli.callback_overrides import parse_quietly, replacing_callbacks, route_callback_overrides
from lightning_adv.cli.checkpoints import is_checkpoint
from lightning_adv.cli.class_changes import class_changes, may_be_changed
from lightning_adv.cli.classes import find_class
from lightning_adv.cli.document import JSON
from lightning_adv.cli.help import COMMANDS, HelpFormatter, as_called
from lightning_adv.cli.lock import lock_folder
from lightning_adv.cli.loggers import default_loggers, loggers_in
from lightning_adv.cli.messages import from_construction
from lightning_adv.cli.parser import Parser
from lightning_adv.cli.ranks import keep_ranks
from lightning_adv.cli.runs import choose_run_folder, find_last_checkpoint, is_first_rank, tell
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.models import Normalize, computes_in_bf16
from lightning_adv.models.folders import check_order_of_classes, is_whole
from lightning_adv.models.zoo import located
from lightning_adv.modules import ClassifierModule

__all__ = ["CLI"]

FEWEST_PROCESSES = 8
"""So many may share a core or two, to try things out."""

OWN = "lightning_adv."
"""How the paths of this package's classes begin."""
FROM_DATA = ("num_classes", "in_channels", "image_size", "class_names")
"""Arguments of a module that describe the data and are taken from the datamodule."""

ABOUT_OTHERS = {Report, TimeBudget}
"""Callbacks that do nothing where there is no evaluation."""

WHOLE = {"save_distributed_checkpoint": False, "state_dict_type": "full"}
"""Arguments of strategies that make one file of a checkpoint."""

STATISTICS = ("mean", "std")
"""Arguments of a module that are taken from the datamodule where the user types none."""


class CLI(LightningCLI):
    """LightningCLI in subclass mode for model and data; see ``train.py fit --help``.

    Args:
        args: the command line without the program's name.
        name: of the run: its folder is ``runs/<name>/<time>`` where nothing else is asked for.
        pages: usage, description and epilog of the program and of each command.
        base: settings that come before all others, such as those that a checkpoint holds.
        evaluates: refuse to run without an evaluation.
    """

    def __init__(
        self,
        args: list[str],
        name: str,
        pages: dict[str, dict[str, str]],
        base: dict[str, object] | None = None,
        evaluates: bool = False,
    ) -> None:
        self.name, self.base, self.evaluates = name, base or {}, evaluates
        # A parser takes its time to build, and a command needs no other's.
        self.commands = args[:1] if args[:1] and args[0] in COMMANDS else list(COMMANDS)
        self.typed: dict[str, tuple[float, ...]] = {}
        shared = {"allow_abbrev": False, "formatter_class": HelpFormatter}
        pages = {name: {key: as_called(text) for key, text in page.items()} for name, page in pages.items()}
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunRecord,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={**shared, **pages["program"], **{key: {**shared, **pages[key]} for key in self.commands}},
            auto_configure_optimizers=False,
            args=args,
        )

    @property
    def reports(self) -> list[Path]:
        """Folder of the report, if one was written."""
        if self.trainer.fast_dev_run or not self.trainer.is_global_zero:
            return []
        return [each.path for each in self.trainer.callbacks if isinstance(each, Report) and each.path is not None]

    def subcommands(self) -> dict[str, set[str]]:
        """The commands; ``ckpt_path`` is this class's own, and nothing may switch safe loading off."""
        loaders = {"dataloaders", "train_dataloaders", "val_dataloaders"}
        return {command: {"model", "datamodule", "ckpt_path", "weights_only", *loaders} for command in self.commands}

    def add_default_arguments_to_parser(self, parser: Parser) -> None:
        """What belongs to every run."""
        parser.add_argument(
            "--run", type=str | None, default=None, help="Folder of this run; default a new one under runs/."
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint to go on from or to test; 'last' is that of --run, else of the newest run of this name.",
        )
        parser.add_argument(
            "--seed_everything",
            type=bool | int,
            default=self.seed_everything_default,
            help="Seed of the run; true draws one, false sets none.",
        )
        parser.add_argument(
            JSON, action="store_true", default=SUPPRESS, help="Print the results as JSON, and all else to stderr."
        )

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """The resumable checkpoint, and the links from data to model."""
        parser.add_class_arguments(LastCheckpoint, "last_checkpoint")
        for key in FROM_DATA:
            parser.link_arguments(f"data.{key}", f"model.init_args.{key}", apply_on="instantiate")
        for key in STATISTICS:
            typed_or = self._typed_or(key)
            parser.link_arguments(f"data.{key}", f"model.init_args.{key}", typed_or, apply_on="instantiate")
        said = self._who_said
        parser.link_arguments("data.mean", "model.init_args.statistics", said, apply_on="instantiate")

    def _typed_or(self, key: str) -> Callable[[tuple[float, ...]], tuple[float, ...]]:
        """The figures that the user typed; without them, those of the data. The help page shows the function's name."""

        def typed_or(of_data: tuple[float, ...]) -> tuple[float, ...]:
            return self.typed.get(key, of_data)

        return typed_or

    def _who_said(self, of_data: tuple[float, ...]) -> str:
        return "given" if self.typed else "assumed"

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        """Parse ``args`` on top of what the checkpoint says; tell what a changed class does to its arguments."""
        with tempfile.TemporaryDirectory() as folder:
            if self.base:
                file = Path(folder) / "checkpoint.yaml"
                replace_atomically(file, yaml.safe_dump(self.base, sort_keys=False))
                args = [*args[:1], "--config", str(file), *args[1:]]
            args = own_architecture(args)
            routed = route_callback_overrides(parser, replacing_callbacks(args))
            self.config = parser.parse_args(routed)
            after = self.config[self.config.subcommand]
            first = through_first_config(args)
            changed = first and may_be_changed(yaml.safe_load(Path(first[-1]).read_text(encoding="utf-8")), after)
            before = parse_quietly(parser, first) if changed else None
        for change in class_changes(before, after):
            tell(f"note: {change}")

    def _parse_ckpt_path(self) -> None:
        """Nothing: the base class lets a checkpoint override what the user typed; here it gives the defaults."""

    def _add_instantiators(self) -> None:
        """Lightning's, which dump the whole configuration, keep objects out of a stranger's hyperparameters.

        Those of this package are plain data as they are.
        """
        config = self.config[self.subcommand]
        if not all(each is None or each.class_path.startswith(OWN) for each in (config.model, config.data)):
            super()._add_instantiators()

    def before_instantiate_classes(self) -> None:
        """Settle checkpoint and folder of the run, and refuse what would be ignored silently."""
        config = self.config[self.subcommand]
        self.json = bool(config.pop("json", False))
        for key in FROM_DATA:
            if config.get(f"model.init_args.{key}") is not None:
                raise InputError(f"model.{key} is taken from the data; leave it out and set the data instead")
        callbacks = {find_class(each.class_path) for each in _as_list(config.trainer.callbacks)}
        if self.evaluates and callbacks <= ABOUT_OTHERS:
            raise InputError(
                "there is nothing to evaluate: add an evaluation (--trainer.callbacks+=AttackEvaluation) or a "
                "configuration that has some (--config evaluate/standard)"
            )
        typed = {key: config.get(f"model.init_args.{key}") for key in STATISTICS}
        self.typed = {key: value for key, value in typed.items() if value is not None}
        if len(self.typed) == 1:
            raise InputError(f"give both model.mean and model.std, or neither: got {next(iter(self.typed))} alone")
        _refuse_shards(config.trainer.get("strategy"))
        self.folder, self.checkpoint = self._settle(config)
        if self.checkpoint and not self.base:  # what gave the base was read already
            self._refuse_bare_weights(self.checkpoint)
        if is_first_rank() and not config.trainer.fast_dev_run:
            lock_folder(self.folder)
        config.run = None  # config.yaml describes a run that can be repeated: elsewhere, and from its beginning
        config.ckpt_path = None if self.subcommand == "fit" else self.checkpoint
        model = config.model  # where no backbone is on record, the weights say what network it is, and are read again
        weights = model.init_args.get("weights")
        if find_class(model.class_path) is ClassifierModule and not (weights and is_whole(weights)):
            model.init_args.backbone = model.init_args.backbone or ClassifierModule.USUAL

    def _settle(self, config: Namespace) -> tuple[Path, str | None]:
        """The run's folder and the path of the checkpoint to load."""
        if config.ckpt_path != "last":
            model = config.get("model")  # which loads the weights of another project's checkpoint itself
            is_ours = find_class(model.class_path) is ClassifierModule
            loads = is_ours and config.ckpt_path is not None and model.init_args.weights == config.ckpt_path
            return choose_run_folder(config.run, self.name, resume=False), None if loads else config.ckpt_path
        folder = choose_run_folder(config.run, self.name.removeprefix(f"{self.subcommand}/"), resume=True)
        last = find_last_checkpoint(folder)
        if self.subcommand == "fit":
            if last is None:
                tell(f"no checkpoint in {folder} yet: starting from the beginning")
            return folder, last and str(last)
        if last is None:
            raise InputError(f"{folder} holds no checkpoints/last.ckpt: there is nothing to {self.subcommand}")
        return folder / self.subcommand, str(last)  # the report of the training stays as it is

    @staticmethod
    def _refuse_bare_weights(path: str) -> None:
        if not is_checkpoint(path):
            raise InputError(f"{path} holds bare weights, no run to go on with: load them by --model.weights={path}")

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; a constructor's complaint is the user's to read."""
        loggers = self._get(self.config, "trainer").get("logger")
        try:
            with loggers_in(self.folder, loggers), self._data_told_the_network():
                super().instantiate_classes()
        except (InputError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(from_construction(error)) from error

    @contextmanager
    def _data_told_the_network(self) -> Iterator[None]:
        """Data that shall match the model are built before it: tell them its network, and leave the settings alone."""
        config = self.config[self.subcommand]
        model, data, waiting = config.model.get("init_args") or {}, config.data, []
        while isinstance(data, Namespace):  # one datamodule around another
            arguments = data.get("init_args") or Namespace()
            waiting += [arguments] if arguments.get("match") == "model" else []
            data = arguments.get("data")
        network = model.get("backbone") or model.get("weights")
        if waiting and not isinstance(network, str):
            raise InputError("data.match=model needs a network that --model.backbone names")
        for arguments in waiting:
            arguments.match = network
        try:
            yield
        finally:
            for arguments in waiting:
                arguments.match = "model"

    def after_instantiate_classes(self) -> None:
        """Say where the run goes, now that nothing but the data can be wrong with it."""
        processes, most = self.trainer.num_devices, max(FEWEST_PROCESSES, os.cpu_count() or 1)
        if isinstance(self.trainer.accelerator, CPUAccelerator) and processes > most:
            raise InputError(
                f"trainer.devices={processes} starts {processes} processes on a machine of {os.cpu_count()} cores: ask "
                f"for at most {most}"
            )
        weights, names = (
            self._get(self.config, "model").init_args.get("weights"),
            DataFacts(self.datamodule).class_names,
        )
        if weights and names and (folder := located(weights)).is_dir():
            check_order_of_classes(folder, names)
        layers = self.model.modules() if isinstance(self.model, ClassifierModule) else ()
        if layers and not any(isinstance(each, Normalize) for each in layers):
            name = type(self.model.backbone).__name__
            tell(f"note: {name} gets images in [0, 1] as they are: nothing but the network itself normalises them")
        if self.subcommand == "fit" and isinstance(self.model, ClassifierModule):
            unfollowed = unfollowed_budget(self.model.objective, self.trainer.callbacks)
            tell(f"note: {unfollowed}") if unfollowed else None
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            self._check_that_networks_can_be_spread()
        if self.trainer.precision.startswith("bf16") and not computes_in_bf16(self.trainer.strategy.root_device):
            tell(
                f"note: this machine's processor has no instructions for bfloat16: trainer.precision="
                f"{self.trainer.precision} is several times as slow here as 32-true"
            )
        if not self.trainer.fast_dev_run:
            self._tell_model()
            tell(f"run folder: {self.folder}")

    def _tell_model(self) -> None:
        """In place of the trainer's table of layers."""
        weights = sum(each.numel() for each in self.model.parameters() if not is_lazy(each))
        if weights:  # there are none before networks are spread, or have seen an image
            name = self.model.network if isinstance(self.model, ClassifierModule) else type(self.model).__name__
            tell(f"note: model: {name}, {weights:,} parameters")

    def _check_that_networks_can_be_spread(self) -> None:
        """Lightning would end in the middle of setting the processes up."""
        if not is_overridden("configure_model", self.model, LightningModule):
            raise InputError(
                f"ModelParallelStrategy spreads networks of DiffusionModule and LatentDiffusionModule, and "
                f"{type(self.model).__name__} has none that it could: use trainer.strategy: ddp"
            )
        given = self._get(self.config, "trainer").strategy.init_args
        if (given.data_parallel_size, given.tensor_parallel_size) != (self.trainer.world_size, 1):
            raise InputError(
                f"trainer.strategy.data_parallel_size must be {self.trainer.world_size}, the number of processes, and "
                f"tensor_parallel_size 1, got {given.data_parallel_size} and {given.tensor_parallel_size}"
            )

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """The trainer with this project's defaults: its folder, logs, lines of text, and bars on a terminal only."""
        config = self._get(self.config_init, "trainer")
        # What was found stands above the path of the report.
        found = [ResultLines()] if self._get(self.config_init, "verbose", default=False) else []
        callbacks = config.callbacks = [StopOnSignal(), *found, *_as_list(config.callbacks)]
        if self.json and not any(isinstance(callback, Report) for callback in callbacks):
            callbacks.append(Report())
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.folder / "checkpoints")
        if config.enable_checkpointing is not False:
            callbacks.append(self._get(self.config_init, "last_checkpoint"))
        if config.logger in (None, True) and not config.fast_dev_run:
            config.logger = default_loggers(self.folder)
        if config.enable_progress_bar is None:
            config.enable_progress_bar = sys.stdout.isatty()
        if config.enable_progress_bar and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(Bars())
        if self.subcommand == "fit":
            callbacks.append(EpochLine())
        config.enable_model_summary = bool(config.enable_model_summary)
        config.default_root_dir = str(self.folder)
        trainer = super().instantiate_trainer(**kwargs)
        keep_ranks(trainer)
        return trainer

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, object]:
        """The command's arguments; a checkpoint from wherever is loaded without unpickling code."""
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        silent = {} if subcommand == "fit" else {"verbose": False}  # the trainer's own table
        return {**arguments, **silent, "ckpt_path": self.checkpoint, "weights_only": True}


def _refuse_shards(strategy: object) -> None:
    """A run goes on from one file: a folder of shards would not be found, and its list is a pickle."""
    given = strategy.get("init_args") or {} if isinstance(strategy, Namespace) else {}
    for key, wanted in WHOLE.items():
        if key in given and given[key] != wanted:
            raise InputError(
                f"trainer.strategy.{key} must be {str(wanted).lower()}: "
                "a run saves one checkpoint, not a shard of each process"
            )


def _as_list(callbacks: object) -> list:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
