"""A file that a configuration names and that is not there: one line, before anything is trained."""

import pytest
import yaml

from lightning_adv.modules import ClassifierModule
from tests.cli.commands import DEMO, run
from tests.cli.test_mistakes import message_of

NOWHERE = "nowhere.ckpt"
PGD = {"class_path": "PGD", "init_args": {"eps": 0.1, "steps": 1}}
HELPED = {"class_path": "HAT", "init_args": {"helper": NOWHERE}}


def cls(name: str, **arguments: object) -> dict:
    return {"class_path": name, "init_args": arguments}


def objective(given: dict) -> dict:
    return {"model": {"class_path": "ClassifierModule", "init_args": {"backbone": "mnist_cnn", "objective": given}}}


def callback(name: str, **arguments: object) -> dict:
    return {"trainer": {"callbacks": [cls(name, **arguments)]}}


def poisoned(trigger: dict, **more: object) -> dict:
    few = {"max_train_samples": 40, "max_val_samples": 12, "max_test_samples": 12, "batch_size": 20}
    return {
        "data": cls(
            "PoisonedDataModule", data=cls("MNISTSubset", **few), trigger=trigger, target=0, poisoned=0.1, **more
        )
    }


NAMED = {
    "the helper of HAT": objective(HELPED),
    "the helper of HAT in AWP": objective(cls("AWP", objective=HELPED)),
    "weights to start from": {"model": cls("ClassifierModule", backbone="mnist_cnn", weights=NOWHERE)},
    "a source of transferred attacks": callback("TransferEvaluation", sources={"it": NOWHERE}, attacks={"pgd": PGD}),
    "references of an inspection": callback(
        "BackdoorInspection",
        inspectors={"nc": cls("NeuralCleanse", steps=1)},
        references=[NOWHERE, NOWHERE],
    ),
    "a diffusion model": callback("GeneratedImages", path=NOWHERE, export="images", per_class=1),
    "a purifier": callback(
        "PurificationEvaluation", purifiers={"it": cls("Diffusion", path=NOWHERE)}, attacks={"a": PGD}
    ),
    "the network of a clean-label attack": poisoned(cls("LabelConsistent", network=NOWHERE), label="keep"),
    "a saved trigger": poisoned(cls("MaskedPattern", path=NOWHERE)),
    "a universal perturbation": poisoned(cls("UniversalPerturbation", path=NOWHERE)),
    "suspects": {"data": cls("CleansedDataModule", data="MNISTSubset", scan=NOWHERE)},
    "more images": {"data": cls("MixedDataModule", data="MNISTSubset", extra=NOWHERE)},
    "arrays": {"data": cls("ArrayData", train=NOWHERE)},
}


def _begun(*given: object) -> None:
    raise AssertionError("training began")


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
def test_a_file_that_is_not_there_is_told_before_training(named, tmp_path, monkeypatch):
    (tmp_path / "named.yaml").write_text(yaml.safe_dump(named))
    monkeypatch.setattr(ClassifierModule, "training_step", _begun)
    few = [] if "data" in named else ["--data.max_train_samples=40"]
    outcome = run(["fit", "--config", DEMO, "--config", "named.yaml", "--trainer.max_epochs=1", *few])
    message = message_of(outcome)
    assert NOWHERE in message
    assert message != f"no file {NOWHERE}"  # whose it is stands there, too
