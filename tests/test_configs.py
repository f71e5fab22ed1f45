"""Every configuration in configs/ builds what it says, without a network and without data."""

import itertools
import re
import shlex
import socket
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden

from lightning_adv.callbacks import EpochEndEvaluation, GeneratedImages, ResultLines, StopOnSignal, TimeBudget
from lightning_adv.models import check_state, read_state_dict
from tests.cli.commands import CONFIGS, DEMO, Built, resolved

ZOO = sorted(path.name for path in CONFIGS.glob("zoo/*.yaml"))
WHOLE_RUNS = sorted(
    path.relative_to(CONFIGS).as_posix() for pattern in ("*.yaml", "recipes/*.yaml") for path in CONFIGS.glob(pattern)
)
BACKDOORS = sorted(path.name for path in CONFIGS.glob("backdoor/*.yaml"))
PURIFICATION = sorted(path.name for path in CONFIGS.glob("purification/*.yaml"))
GENERATE = sorted(path.name for path in CONFIGS.glob("generate/*.yaml"))
CALLBACKS = sorted(path.name for path in CONFIGS.glob("callbacks/*.yaml"))
LOGGERS = sorted(path.name for path in CONFIGS.glob("loggers/*.yaml"))
EVALUATIONS = sorted(path.name for path in CONFIGS.glob("evaluate/*.yaml"))
SWEEPS = sorted(path.name for path in CONFIGS.glob("sweeps/*.yaml"))
STRATEGIES = sorted(path.name for path in CONFIGS.glob("strategies/*.yaml"))
SCRIPTS = sorted(path.name for path in CONFIGS.glob("slurm/*.sh"))
ATTACKS = {
    "cifar10_pgd.yaml": (8 / 255, 2 / 255, 10),
    "cifar10_pgd_fast.yaml": (8 / 255, 2 / 255, 10),
    "cifar10_trades.yaml": (0.031, 0.007, 10),
    "imagenet_fast.yaml": (4 / 255, 5 / 255, 1),
    "recipes/cifar10_preact18_gradalign.yaml": (8 / 255, 8 / 255, 1),
    "recipes/cifar10_preact18_hat.yaml": (0.031, 0.007, 10),
    "recipes/cifar10_preact18_nfgsm.yaml": (8 / 255, 8 / 255, 1),
    "mnist_pgd.yaml": (0.3, 0.1, 7),
}
"""Eps, step and steps of the papers that these recipes are of; mnist_pgd has the eps alone from its paper."""
NAMED = {"demo.yaml", "mnist_pgd.yaml", "cifar10_standard.yaml", "cifar10_pgd.yaml", "cifar10_trades.yaml"}

SLURM = {
    "SLURM_NNODES": "4",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_GPUS_PER_NODE": "8",
    "SLURM_JOB_NAME": "name",
    "SLURM_JOB_ID": "1",
}


@pytest.fixture(autouse=True)
def alone_and_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a configuration must not need a network to be built")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    for label in ("a", "b"):  # class folders are all that ImageFolder reads before setup
        Path("data/imagenet/train", label).mkdir(parents=True)
    Path("data/robustbench_imagenet.txt").write_text("n01440764/ILSVRC2012_val_00000293.JPEG")


def title(path: Path) -> str:
    """The sentence that a file begins with, behind the line that names a script's interpreter."""
    return next(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#!"))


def test_every_file_has_a_kind_and_the_promised_ones_are_there():
    files = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*") if path.is_file()}
    kinds = {"callbacks": CALLBACKS, "loggers": LOGGERS, "evaluate": EVALUATIONS, "sweeps": SWEEPS, "slurm": SCRIPTS}
    kinds |= {"backdoor": BACKDOORS, "purification": PURIFICATION, "strategies": STRATEGIES, "zoo": ZOO}
    kinds |= {"generate": GENERATE}
    known = {f"{folder}/{name}" for folder, names in kinds.items() for name in names} | set(WHOLE_RUNS)
    assert files == known
    assert set(WHOLE_RUNS) >= NAMED | set(ATTACKS)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.*")), ids=lambda path: path.name)
def test_a_file_begins_with_one_sentence(path):
    assert re.fullmatch(r"# [A-Z0-9].+[.:]", title(path))
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 120


@pytest.mark.parametrize("name", WHOLE_RUNS)
def test_a_run_is_built_on_the_attack_of_its_paper_with_attacks_that_are_evaluated_last(name):
    cli = Built(["fit", "--config", CONFIGS / name])
    assert cli.model.num_classes == cli.datamodule.num_classes
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert names.index("Report") < names.index("AttackEvaluation")
    *_, last = yaml.safe_load((CONFIGS / name).read_text())["trainer"]["callbacks"]
    assert last["class_path"] == "AttackEvaluation", "so that --trainer.callbacks.max_samples reaches it"
    assert cli.trainer.max_epochs
    optimizer = cli.model.configure_optimizers()["optimizer"]
    assert sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"]) > 10_000
    if name in ATTACKS:
        attack = cli.model.objective.attack
        assert (attack.eps, attack.step_size, attack.steps) == pytest.approx(ATTACKS[name])


@pytest.mark.parametrize("kind", ["mnist", "cifar10"])
def test_each_of_three_configurations_takes_what_the_one_before_leaves(kind):
    last = {"mnist": "pgd", "cifar10": "trades"}[kind]
    names = [f"{kind}_{name}.yaml" for name in ("diffusion", "images", last)]
    assert sorted(names) == [name for name in GENERATE if name.startswith(kind)]
    diffusion, images, mixed = (Built(["fit", "--config", CONFIGS / "generate" / name]) for name in names)
    (making,) = (each for each in images.trainer.callbacks if isinstance(each, GeneratedImages))
    assert diffusion.model.no_class == images.model.num_classes, "it is told the class"
    assert making.path == diffusion.model.export
    assert mixed.datamodule.extra == f"{making.export}/generated.npz"


@pytest.mark.parametrize("name", ZOO)
def test_the_weights_of_the_zoo_are_of_the_network_that_their_configuration_trains(name):
    network = Built(["fit", "--config", CONFIGS / "zoo" / name]).model.backbone.net
    check_state(read_state_dict(f"zoo/{Path(name).stem}"), network, name)


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_is_added_to_a_run_that_keeps_its_own(name):
    own, fragment = yaml.safe_load(Path(DEMO).read_text()), yaml.safe_load((CONFIGS / "callbacks" / name).read_text())
    callbacks = Built(["fit", "--config", DEMO, "--config", CONFIGS / "callbacks" / name]).trainer.callbacks
    names = [type(callback).__name__ for callback in callbacks]
    added = [each["class_path"] for each in fragment["trainer"]["callbacks+"]]
    for wanted in [each["class_path"] for each in own["trainer"]["callbacks"]] + added:
        names.remove(wanted)


def test_all_callbacks_together_are_one_run():
    files = itertools.chain(*(("--config", CONFIGS / "callbacks" / name) for name in CALLBACKS))
    trainer = Built(["fit", "--config", DEMO, *files]).trainer
    monitored = {each.monitor for each in trainer.callbacks if hasattr(each, "monitor")}
    assert monitored == {"val/worst_case/robust_accuracy"}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("model", ["mnist_diffusion.yaml", "mnist_latent_diffusion.yaml"])
def test_a_strategy_spreads_a_model_over_the_processes_it_is_told(name, model):
    files = ["--config", CONFIGS / "purification" / model, "--config", CONFIGS / "strategies" / name]
    cli = Built(["fit", *files, "--trainer.accelerator=cpu", "--trainer.devices=2"])
    assert isinstance(cli.trainer.strategy, ModelParallelStrategy)
    assert is_overridden("configure_model", cli.model)


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_replaces_the_default_ones_in_the_same_folder(name):
    trainer = Built(["fit", "--config", DEMO, "--config", CONFIGS / "loggers" / name, "--run=here"]).trainer
    (logger,) = trainer.loggers
    assert Path(logger.save_dir) == Path("here")


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_is_a_report_and_one_evaluation_in_that_order(name):
    callbacks = Built(["test", "--config", DEMO, "--config", CONFIGS / "evaluate" / name]).trainer.callbacks
    beside = (StopOnSignal, ResultLines, TimeBudget)  # those that every run has, and the plan of an audit
    callbacks = [each for each in callbacks if not isinstance(each, beside)]
    assert type(callbacks[0]).__name__ == "Report"
    assert isinstance(callbacks[1], EpochEndEvaluation)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_run_of_a_sweep_is_a_command_that_is_understood(name):
    sweep = yaml.safe_load((CONFIGS / "sweeps" / name).read_text())
    assert sweep["metric"]["name"].startswith("val/")
    names, values = zip(*((key, each["values"]) for key, each in sweep["parameters"].items()), strict=True)
    for choice in (next(itertools.product(*values)), list(itertools.product(*values))[-1]):
        args = [f"--{key}={value}" for key, value in zip(names, choice, strict=True)]
        command = [part for part in sweep["command"] if part != "${args}"] + args
        assert command[:3] == ["${env}", "${interpreter}", "${program}"]
        config = resolved(local(command[3:]))
        for key, value in zip(names, choice, strict=True):
            assert value_at(config, key) == value


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_command_of_a_job_script_is_understood_and_can_be_repeated_to_resume(name):
    text = (CONFIGS / "slurm" / name).read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^srun .*$", text, re.MULTILINE)
    for variable, value in SLURM.items():
        command = command.replace(f'"${variable}"', value).replace(f"${variable}", value)
    args = shlex.split(command)
    config = resolved(local(args[args.index("train.py") + 1 :]))
    assert config["ckpt_path"] == "last"
    assert config["run"] == "runs/name"
    assert (config["trainer"]["num_nodes"], str(config["trainer"]["devices"])) == (4, "8")


def local(args: list[str]) -> list[str]:
    """The arguments with their configurations as absolute paths."""
    return [re.sub(r"(^|=)configs/", rf"\g<1>{CONFIGS}/", arg) for arg in args]


def value_at(config: dict, key: str) -> object:
    """The value at a dotted key of the command line, which leaves ``init_args`` out."""
    for part in key.split("."):
        config = config["init_args"][part] if "init_args" in config else config[part]
    return config
