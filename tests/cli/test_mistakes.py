import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_adv.callbacks import Report
from lightning_adv.cli import evaluate
from tests.cli.commands import CONFIGS, DEMO, FEW_IMAGES, QUICK, Outcome, run

DEMO_TEXT = Path(DEMO).read_text()


def refused(args: list[str], command=None) -> str:
    """The one message of a command that must refuse ``args`` before anything is trained."""
    outcome = run(args, command) if command else run(args)
    return message_of(outcome)


def message_of(outcome: Outcome) -> str:
    assert outcome.status == 2
    lines = [line for line in outcome.err.splitlines() if not line.startswith(("note: ", "run folder: "))]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 420
    assert "Traceback" not in outcome.out + outcome.err
    assert "epoch 1/" not in outcome.out
    assert not list(Path("runs").glob("**/*.ckpt"))
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--trainer.max_epoch=3", "there is no option --trainer.max_epoch; did you mean --trainer.max_epochs?"),
        ("--trainr.max_epochs=3", "there is no option --trainr.max_epochs; did you mean --trainer.max_epochs?"),
        ("--print_confg", "there is no option --print_confg; did you mean --print_config?"),
        ("oops", "unexpected 'oops': options start with --, as in --trainer.max_epochs=3"),
        ("--model.bakcbone=lenet", "model: ClassifierModule has no argument 'bakcbone'; did you mean backbone?"),
        ("--data.batchsize=5", "data: MNISTSubset has no argument 'batchsize'; did you mean batch_size?"),
        (
            "--trainer.callbacks.max_sample=5",
            "trainer.callbacks: AttackEvaluation has no argument 'max_sample'; did you mean max_samples?",
        ),
        (
            "--trainer.callbacks.attacks.pgd20.step=5",
            "trainer.callbacks.attacks: PGD has no argument 'step'; did you mean steps?",
        ),
        ("--model.optimizer.init_args.lrr=.1", "model.optimizer: Adam has no argument 'lrr'; did you mean lr?"),
        ("--trainer.max_epochs=three", "trainer.max_epochs must be a whole number, got 'three'"),
        ("--model.objective.attack.steps=many", "model.objective.attack.steps must be a whole number, got 'many'"),
        ("--model.objective.attack.norm=L7", "model.objective.attack.norm must be one of Linf, L2, L1, got 'L7'"),
        ("--model.optimizer.lr=fast", "model.optimizer.lr must be a number, got 'fast'"),
        ("--trainer.callbacks.max_samples=x", "trainer.callbacks.max_samples must be a whole number, got 'x'"),
        ("--data=MNISTSubst", "data: there is no class 'MNISTSubst'; did you mean MNISTSubset?"),
        ("--model=ClasifierModule", "model: there is no class 'ClasifierModule'; did you mean ClassifierModule?"),
        ("--model.objective=TRADE", "model.objective: there is no class 'TRADE'; did you mean TRADES?"),
        ("--model.objective.attack=PDG", "model.objective.attack: there is no class 'PDG'; did you mean PGD?"),
        (
            "--trainer.callbacks+=EarlyStoping",
            "trainer.callbacks: there is no class 'EarlyStoping'; did you mean EarlyStopping?",
        ),
        ("--trainer.callbacks+=EarlyStopping", "trainer.callbacks: EarlyStopping needs the argument monitor"),
        ("--trainer.logger=WandLogger", "trainer.logger: there is no class 'WandLogger'; did you mean WandbLogger?"),
        ("--data=ArrayData", "data: ArrayData needs the argument train"),
        ("--model.objective.attack.steps=-3", "PGD: steps must be at least 1, got -3"),
        ("--model.objective.attack.eps=8/", "PGD: eps must be a number or a fraction such as 8/255, got '8/'"),
        ("--model.objective.clean_weight=2", "AdversarialTraining: clean_weight must lie in [0, 1], got 2.0"),
        ("--data.batch_size=-5", "MNISTSubset: batch_size must be at least 1, got -5"),
        ("--last_checkpoint.every_n_steps=0", "every_n_steps of LastCheckpoint must be at least 1, got 0"),
        ("--model.num_classes=5", "model.num_classes is taken from the data; leave it out and set the data instead"),
        ("--model.mean=[0.5]", "give both model.mean and model.std, or neither: got mean alone"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line_with_what_was_meant(override, message):
    assert refused(["fit", "--config", DEMO, *QUICK, override]) == message


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("max_epochs:", "max_epoch:", "there is no option trainer.max_epoch; did you mean trainer.max_epochs?"),
        ("model:", "modle:", "there is no option modle; did you mean model?"),
        ("backbone:", "bakcbone:", "model: ClassifierModule has no argument 'bakcbone'; did you mean backbone?"),
        (
            "max_samples:",
            "max_sample:",
            "trainer.callbacks: AttackEvaluation has no argument 'max_sample'; did you mean max_samples?",
        ),
        ("steps: 20", "step: 20", "trainer.callbacks.attacks: PGD has no argument 'step'; did you mean steps?"),
        ("steps: 7", "steps: x", "model.objective.attack.steps must be a whole number, got 'x'"),
        (
            "class_path: AttackEvaluation",
            "class_path: AttackEvalution",
            "trainer.callbacks: there is no class 'AttackEvalution'; did you mean AttackEvaluation?",
        ),
        (
            "fgsm: {class_path: FGSM",
            "fgsm: {class_path: FGMS",
            "trainer.callbacks.attacks: there is no class 'FGMS'; did you mean FGSM?",
        ),
        (
            "init_args: {batch_size: 50, eval_batch_size: 250}",
            "batch_size: 50",
            "data: the arguments of a class stand under init_args, as {class_path: NAME, init_args: {...}}",
        ),
        (
            "{class_path: FGSM, init_args: {eps: 0.2}}",
            "{class_path: FGSM, eps: 0.2}",
            "trainer.callbacks.attacks: the arguments of a class stand under init_args,"
            " as {class_path: NAME, init_args: {...}}",
        ),
    ],
)
def test_a_slip_in_a_configuration_is_one_line_with_what_was_meant(right, wrong, message):
    assert right in DEMO_TEXT
    Path("slip.yaml").write_text(DEMO_TEXT.replace(right, wrong))
    assert refused(["fit", "--config", "slip.yaml"]) == message


def test_an_eps_in_grey_levels_is_met_with_the_fraction_that_was_meant():
    message = refused(["fit", "--config", DEMO, "--model.objective.attack.eps=8"])
    assert message.startswith("PGD: eps must lie in [0, 1]")
    assert "/255?" in message


def test_an_unknown_backbone_is_met_with_names_that_are_close():
    message = refused(["fit", "--config", DEMO, *FEW_IMAGES, "--model.backbone=lenett"])
    assert "'lenett'" in message
    assert "did you mean lenet" in message


NOWHERE = "there is no configuration file nowhere.yaml; lightning-adv configs lists those with names"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "say what to do, for example: python train.py fit --config configs/demo.yaml"),
        (["fitt"], "there is no command 'fitt'; choose fit, validate, test"),
        (
            ["fit"],
            "data and model must be given: add --config FILE (such as configs/demo.yaml),"
            " or --data=... and --model=...",
        ),
        (["fit", "--config", "nowhere.yaml"], NOWHERE),
        (["fit", "--config=nowhere.yaml"], NOWHERE),
        (["fit", "-c", "nowhere.yaml"], NOWHERE),
    ],
)
def test_a_command_line_that_lacks_something_is_told_what(args, message):
    assert refused(args) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: [\n", "broken.yaml is not valid YAML: line 2:"),
        ("just words", "broken.yaml must hold settings such as 'data: MNISTSubset', got str"),
        ("", "broken.yaml must hold settings such as 'data: MNISTSubset', got NoneType"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(text, message):
    Path("broken.yaml").write_text(text)
    assert refused(["fit", "--config", DEMO, "--config", "broken.yaml"]).startswith(message)


def test_a_missing_data_folder_is_named_with_its_remedy():
    message = refused(["fit", "--config", DEMO, "--data=MNIST", "--data.root=nowhere", "--run=runs/x"])
    assert "nowhere/MNIST/raw" in message
    assert "--data.download=true" in message
    assert not Path("runs/x/config.yaml").exists()


def arrays(labels: list[int], pixel: float = 0.5) -> list[str]:
    images = np.random.default_rng(0).random((len(labels), 1, 28, 28), dtype=np.float32)
    images[3, 0, 5, 5] = pixel
    np.savez("own.npz", images=images, labels=np.array(labels))
    return ["fit", "--config", DEMO, "--data=ArrayData", "--data.root=.", "--data.train=own.npz", *QUICK[1:]]


@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        (lambda: arrays([1] * 40), ["one label 1", "two classes"]),
        (lambda: [*arrays([0, 1] * 20), "--data.num_classes=1"], []),
        (lambda: [*arrays([0, 1, 2, 3] * 10), "--data.num_classes=3"], ["label 3", "[0, 3)"]),
        (lambda: arrays([0, 1] * 20, pixel=float("nan")), ["NaN", "image 3"]),
        (lambda: arrays([0, 1] * 20, pixel=7.0), ["[0, 1]", "255"]),
    ],
    ids=["one class", "one class asked for", "label out of range", "NaN", "pixels out of range"],
)
def test_data_that_cannot_be_trained_on_are_refused_before_training(args, fragments):
    message = refused(args())
    for fragment in fragments:
        assert fragment.replace("one label 1", "label 1") in message


class TouchesAFile:
    """What an attacker pickles: code that runs when it is loaded."""

    def __reduce__(self) -> tuple:
        return (os.system, ("touch executed",))


@pytest.fixture
def malicious() -> str:
    Path("runs/victim/checkpoints").mkdir(parents=True)
    path = "runs/victim/checkpoints/last.ckpt"
    torch.save({"pytorch-lightning_version": "2.6.6", "state_dict": TouchesAFile()}, path)
    return path


@pytest.mark.parametrize(
    ("command", "args"),
    [
        (None, ["fit", "--config", DEMO, "--ckpt_path=runs/victim/checkpoints/last.ckpt"]),
        (None, ["fit", "--config", DEMO, "--run=runs/victim", "--ckpt_path=last"]),
        (None, ["fit", "--config", DEMO, "--config", "path.yaml"]),
        (None, ["test", "--config", DEMO, "--ckpt_path=runs/victim/checkpoints/last.ckpt"]),
        (None, ["fit", "--config", DEMO, "--model.weights=runs/victim/checkpoints/last.ckpt"]),
        (evaluate, ["--ckpt_path=runs/victim/checkpoints/last.ckpt"]),
    ],
    ids=["fit", "last", "in a file", "test", "weights", "evaluate"],
)
def test_a_checkpoint_with_code_is_refused_and_the_code_does_not_run(command, args, malicious):
    Path("path.yaml").write_text(f"ckpt_path: {malicious}\n")
    outcome = run(args, command) if command else run(args)
    assert outcome.status == 2
    error = outcome.err.splitlines()[-1]
    assert malicious in error
    assert "refused" in error
    assert "Traceback" not in outcome.err
    assert not Path("executed").exists()


def test_no_option_switches_safe_loading_off():
    assert "there is no option --weights_only" in refused(["fit", "--config", DEMO, "--weights_only=false"])


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_missing_checkpoint_is_named(command):
    message = refused([command, "--config", DEMO, "--ckpt_path=nowhere.ckpt"])
    assert message.startswith("there is no checkpoint nowhere.ckpt")


def test_evaluate_without_a_checkpoint_says_what_it_needs():
    assert refused(["--data=MNISTSubset"], evaluate).startswith("an evaluation needs --ckpt_path FILE")


def test_bare_weights_are_no_run_to_go_on_with():
    torch.save({"weight": torch.zeros(1)}, "bare.pt")
    message = refused(["fit", "--config", DEMO, "--ckpt_path=bare.pt"])
    assert message.endswith("load them by --model.weights=bare.pt")


def test_what_lightning_refuses_is_one_line_too():
    assert "cpuu" in refused(["fit", "--config", DEMO, *QUICK, "--trainer.accelerator=cpuu"])
    too_early = "--config", str(CONFIGS / "callbacks/best_checkpoint.yaml"), "--trainer.enable_checkpointing=false"
    assert "enable_checkpointing=False" in refused(["fit", "--config", DEMO, *QUICK, *too_early])


@pytest.mark.parametrize("name", ["Report", "AttackEvaluation"])
def test_two_callbacks_of_one_name_are_refused_with_what_to_do(name):
    attacks = ["--trainer.callbacks.attacks={fgsm: FGSM}"] if name == "AttackEvaluation" else []
    message = refused(["fit", "--config", DEMO, *QUICK, f"--trainer.callbacks+={name}", *attacks])
    expected = f"there are two {name} of one name: leave one out, or name an evaluation by init_args: {{name: second}}"
    assert message == expected


def test_a_constructor_that_nobody_taught_to_speak_to_users_is_named_with_the_place(monkeypatch):
    def __init__(self: Report, title: str, **others: object) -> None:
        raise TypeError("no such\n  thing")

    monkeypatch.setattr(Report, "__init__", __init__)
    message = refused(["fit", "--config", DEMO, *QUICK])
    assert message.startswith("Report: no such thing (TypeError, ")
    assert "test_mistakes.py:" in message


FSDP = ["--config", str(CONFIGS / "strategies" / "fsdp.yaml"), "--trainer.devices=1", "--trainer.accelerator=cpu"]


def test_networks_are_spread_over_all_processes_or_none():
    model = str(CONFIGS / "purification" / "mnist_diffusion.yaml")
    message = refused(["fit", "--config", model, "--data=MNISTSubset", *FSDP])
    assert message.startswith("trainer.strategy.data_parallel_size must be 1, the number of processes")
    assert message.endswith("got 2 and 1")


@pytest.mark.parametrize(
    ("strategy", "argument"),
    [
        ("ModelParallelStrategy", "save_distributed_checkpoint=true"),
        ("ModelParallelStrategy", "tensor_parallel_size=1"),  # the other argument is Lightning's, which is true
        ("FSDPStrategy", "state_dict_type=sharded"),
    ],
)
def test_a_strategy_that_saves_shards_is_refused_before_a_run_that_could_not_go_on(strategy, argument):
    typed = [f"--trainer.strategy={strategy}", f"--trainer.strategy.{argument}"]
    message = refused(["fit", "--config", DEMO, *QUICK, *typed])
    assert message.endswith("a run saves one checkpoint, not a shard of each process")
    assert ("must be full" if "sharded" in argument else "must be false") in message


def test_a_strategy_that_spreads_networks_is_refused_for_a_classifier():
    message = refused(["fit", "--config", DEMO, *FSDP, "--trainer.strategy.data_parallel_size=1"])
    assert message.startswith("ModelParallelStrategy spreads networks of DiffusionModule")
    assert "ClassifierModule has none" in message
