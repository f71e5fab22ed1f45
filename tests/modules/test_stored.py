"""A trained classifier comes from its file as it was, and nothing else comes from there."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.modules import ClassifierModule, load_classifier
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, images, trainer

X = images(8).tensors[0]


def saved(folder: Path, model: nn.Module, **content: object) -> Path:
    """A checkpoint of the model, with other content where that is named."""
    runner = trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    runner.fit(model, datamodule=SmallData())
    runner.save_checkpoint(folder / "last.ckpt")
    torch.save(torch.load(folder / "last.ckpt", weights_only=True) | content, folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.mark.parametrize("options", [{}, {"channels_last": True}, {"backbone_options": {"width": 4, "hidden": 16}}])
def test_a_classifier_comes_back_as_it_was(tmp_path, options):
    model = classifier(**options)
    loaded = load_classifier(saved(tmp_path, model))
    assert not loaded.training
    assert loaded.channels_last == model.channels_last
    torch.testing.assert_close(loaded(X), model.eval()(X), rtol=0, atol=0)


def test_the_order_of_channels_may_be_another_one(tmp_path):
    path = saved(tmp_path, classifier(channels_last=True))
    loaded = load_classifier(path, channels_last=False)
    assert not loaded.channels_last
    torch.testing.assert_close(loaded(X), load_classifier(path)(X))


def test_a_network_without_a_name_is_refused(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, CLASSES))
    with pytest.raises(InputError, match="no checkpoint of a ClassifierModule with a named backbone"):
        load_classifier(saved(tmp_path, ClassifierModule(net, num_classes=CLASSES)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone", {"class_path": "subprocess.Popen"}),
        ("backbone", ["mnist_cnn"]),
        ("num_classes", "4"),
        ("num_classes", True),
        ("image_size", (8, "8")),
        ("image_size", 8),
        ("mean", (0.5, {"class_path": "subprocess.Popen"})),
        ("backbone_options", {"width": {"class_path": "subprocess.Popen"}}),
        ("backbone_options", {1: 2}),
        ("backbone_options", [("width", 4)]),
        ("channels_last", 1),
    ],
)
def test_a_hyperparameter_of_another_kind_is_named(tmp_path, name, value):
    model = classifier()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams) | {name: value}}, path)
    with pytest.raises(InputError, match=f"hyperparameter {name} is no") as refusal:
        load_classifier(path)
    assert "\n" not in str(refusal.value)


def test_hyperparameters_that_say_what_to_build_are_not_asked(tmp_path):
    model = classifier()
    stored = dict(model.hparams) | {"_instantiator": "os.system", "_class_path": "subprocess.Popen", "extra": 7}
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": stored}, tmp_path / "last.ckpt")
    assert type(load_classifier(tmp_path / "last.ckpt")) is ClassifierModule


def test_weights_of_another_network_are_refused(tmp_path):
    model, other = classifier(), classifier(backbone_options={"width": 6, "hidden": 16})
    torch.save({"state_dict": other.state_dict(), "hyper_parameters": dict(model.hparams)}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="does not fit the model"):
        load_classifier(tmp_path / "last.ckpt")


@pytest.mark.parametrize("content", [{}, {"hyper_parameters": 7}, {"hyper_parameters": {"channels": 3}}])
def test_a_file_without_hyperparameters_is_refused(tmp_path, content):
    torch.save({"state_dict": {}} | content, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="lacks the hyperparameter backbone"):
        load_classifier(tmp_path / "last.ckpt")
