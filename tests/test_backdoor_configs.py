"""Every configuration in configs/backdoor/ builds the attack of its name, without a network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_adv.backdoors import (
    BPP,
    SIG,
    Blend,
    LabelConsistent,
    LowFrequency,
    MaskedPattern,
    Narcissus,
    Patch,
    Pieces,
    RandomPattern,
    Several,
    StaticPerturbation,
    TrojanTrigger,
    UniversalPerturbation,
    WaNet,
    save_triggers,
)
from lightning_adv.callbacks import BackdoorMitigation
from lightning_adv.data import CleansedDataModule
from lightning_adv.mitigations import ANP, CLP, FST, FTSAM, IBAU, NAD, FinePruning, FineTuning, NeuralCleanseUnlearning
from lightning_adv.objectives import InputAware
from lightning_adv.scans import ScanReport
from lightning_adv.scans.scan_file import save_scan
from tests.cli.commands import CONFIGS, Built

TRIGGERS = {"badnets": Patch, "blended": Blend, "reconstructed": MaskedPattern, "random": RandomPattern}
CLEAN_LABEL = {"sig": (SIG, 4000, 0), "narcissus": (Narcissus, 25, 0), "label_consistent": (LabelConsistent, 0.5, 0)}
CIFAR10 = {
    "wanet": (WaNet, 5000, 10000),
    "bpp": (BPP, 5000, 5000),
    "low_frequency": (LowFrequency, 0.1, 0),
} | CLEAN_LABEL
"""Trigger, poisoned and cover images of the attacks whose setting is the authors' on CIFAR-10."""
OF_MNIST = {
    "static": (StaticPerturbation, 0.1),
    "universal": (UniversalPerturbation, 0.1),
    "trojan": (TrojanTrigger, 0.05),
}
"""Trigger and poisoned images of the attacks that are there on MNIST alone."""
TARGETS = {"mnist": 2, "gtsrb": 33, "faces": 21}
LATER = {"tact": Patch, "adaptive_blend": Pieces, "adaptive_patch": Several}
"""Attacks that ask more of a plan, on MNIST and CIFAR-10."""
MITIGATIONS = {
    "mnist_anp.yaml": ANP,
    "mnist_clp.yaml": CLP,
    "mnist_fine_pruning.yaml": FinePruning,
    "mnist_fine_tuning.yaml": FineTuning,
    "mnist_fst.yaml": FST,
    "mnist_ft_sam.yaml": FTSAM,
    "mnist_ibau.yaml": IBAU,
    "mnist_nad.yaml": NAD,
    "mnist_retuned.yaml": FineTuning,
    "mnist_unlearning.yaml": NeuralCleanseUnlearning,
}
SHAPES = {"mnist": (1, 28, 28), "gtsrb": (3, 32, 32), "faces": (1, 55, 47)}


@pytest.fixture(autouse=True)
def faces_and_triggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read when a run is built: faces of 40 people, and the triggers that an inspection found."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    np.savez("data/orl_faces.npz", x=np.zeros((80, 8, 8), dtype="uint8"), y=np.arange(80) % 40)
    Narcissus(v=torch.zeros(3, 32, 32)).save("runs/cifar10_surrogate/narcissus.safetensors", (3, 32, 32))
    UniversalPerturbation(v=torch.zeros(1, 28, 28)).save("runs/mnist_clean/universal.safetensors", (1, 28, 28))
    trojan = TrojanTrigger(mask=torch.ones(1, 28, 28), pattern=torch.zeros(1, 28, 28))
    trojan.save("runs/mnist_clean/trojan.safetensors", (1, 28, 28))
    for name, shape in SHAPES.items():
        mask, pattern = torch.ones(1, 1, *shape[1:]), torch.zeros(1, *shape)
        save_triggers(f"runs/{name}_clean/triggers.safetensors", mask, pattern, torch.tensor([TARGETS[name]]))
    one = torch.zeros(1, dtype=torch.long)
    for file in ("mnist_badnets/scan_contamination", "mnist_abl/scan_lowest_loss"):
        save_scan(f"runs/{file}.safetensors", ScanReport("", one, one, one, one == 1, ()))


def test_there_is_one_for_every_attack_on_every_data_set():
    expected = {f"{data}_{attack}.yaml" for data in TARGETS for attack in TRIGGERS}
    expected |= {f"cifar10_{attack}.yaml" for attack in [*CIFAR10, "input_aware"]}
    expected |= {f"{data}_{attack}.yaml" for data in ("mnist", "cifar10") for attack in LATER}
    expected |= {f"mnist_{attack}.yaml" for attack in OF_MNIST}
    assert {path.name for path in CONFIGS.glob("backdoor/*.yaml")} == expected | MITIGATIONS.keys() | {
        "mnist_abl.yaml",
        "mnist_abl_unlearning.yaml",
        "mnist_cleansed.yaml",
    }


def test_a_run_without_suspects_is_that_of_the_attack_on_what_a_scan_of_it_leaves():
    cleansed, whole = (Built(["fit", "--config", CONFIGS / "backdoor" / f"mnist_{name}.yaml"]).datamodule
                       for name in ("cleansed", "badnets"))  # fmt: skip
    assert isinstance(cleansed, CleansedDataModule)
    assert (repr(cleansed.trigger), cleansed.target, cleansed.poisoned) == (repr(whole.trigger), 2, whole.poisoned)


@pytest.mark.parametrize("attack", TRIGGERS)
@pytest.mark.parametrize("name", TARGETS)
def test_a_run_is_built_with_its_trigger_and_target_and_evaluates_them_last(name, attack):
    cli = Built(["fit", "--config", CONFIGS / "backdoor" / f"{name}_{attack}.yaml"])
    data = cli.datamodule
    assert (type(data.trigger), data.target) == (TRIGGERS[attack], TARGETS[name])
    assert cli.model.num_classes == data.num_classes
    assert bool(data.cover) == (attack in ("reconstructed", "random"))
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert names.index("Report") < names.index("BackdoorEvaluation")


@pytest.mark.parametrize("attack", CIFAR10)
def test_an_attack_on_cifar10_is_built_in_the_setting_of_its_paper(attack):
    cli = Built(["fit", "--config", CONFIGS / "backdoor" / f"cifar10_{attack}.yaml"])
    data = cli.datamodule
    assert (type(data.trigger), data.poisoned, data.cover) == CIFAR10[attack]
    assert data.label == ("keep" if attack in CLEAN_LABEL else "target")
    assert attack != "narcissus" or (data.trigger.magnify, data.test_trigger.magnify) == (1, 3)
    assert cli.model.network == "preact_resnet18"


@pytest.mark.parametrize("attack", OF_MNIST)
def test_faint_and_optimised_triggers_are_built_on_mnist(attack):
    data = Built(["fit", "--config", CONFIGS / "backdoor" / f"mnist_{attack}.yaml"]).datamodule
    assert (type(data.trigger), data.poisoned) == OF_MNIST[attack]
    assert data.target == TARGETS["mnist"]


@pytest.mark.parametrize("attack", LATER)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_training_shows_a_part_and_an_evaluation_the_whole_or_sources_alone_are_led(name, attack):
    data = Built(["fit", "--config", CONFIGS / "backdoor" / f"{name}_{attack}.yaml"]).datamodule
    assert type(data.trigger) is LATER[attack]
    assert data.cover
    if attack == "tact":
        assert (data.target, data.source_classes, data.cover_classes, data.sampling_rate) == (0, [1], [5, 7], 1.0)
    else:
        x = torch.full((1, 1 if name == "mnist" else 3, 32, 32), 0.3)
        part = data.trigger.poison(x, data.poisoned_sampling_rate, 0, torch.tensor([0]))
        whole = data.test_trigger(x)
        pixels = [int((each != x).any(dim=1).sum()) for each in (part, whole)]
        assert pixels[0] == pixels[1] * data.sampling_rate == pixels[1] * data.poisoned_sampling_rate
        assert (part - x).abs().max() < (whole - x).abs().max()


def test_an_attacker_who_trains_leaves_the_data_clean():
    cli = Built(["fit", "--config", CONFIGS / "backdoor" / "cifar10_input_aware.yaml"])
    assert isinstance(cli.model.objective, InputAware)
    assert type(cli.datamodule).__name__ == "CIFAR10"


def test_all_of_mnist_is_covered_by_copies_so_that_plain_images_remain():
    for attack in ("reconstructed", "random"):
        data = Built(["fit", "--config", CONFIGS / "backdoor" / f"mnist_{attack}.yaml"]).datamodule
        assert (data.cover, data.cover_copies) == (1.0, True)


@pytest.mark.parametrize("name", MITIGATIONS)
def test_a_mitigation_is_built_for_any_checkpoint_and_the_attack_is_measured_on_what_it_leaves(name):
    files = ["--config", CONFIGS / "backdoor" / "mnist_badnets.yaml", "--config", CONFIGS / "backdoor" / name]
    callbacks = Built(["test", *files]).trainer.callbacks
    kinds = [type(callback).__name__ for callback in callbacks]
    (mitigation,) = (each for each in callbacks if isinstance(each, BackdoorMitigation))
    assert type(mitigation.mitigation) is MITIGATIONS[name]
    assert (mitigation.retune is not None) == (name == "mnist_retuned.yaml")
    assert kinds.index("BackdoorMitigation") < kinds.index("BackdoorEvaluation")
