"""A classifier chooses among generated images, and training goes on with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.asking import logits_of
from lightning_adv.callbacks import GeneratedImages
from lightning_adv.data import MixedDataModule
from lightning_adv.errors import InputError
from lightning_adv.modules import DiffusionModule
from lightning_adv.purifiers import DiffusionGenerator
from tests.callbacks.recipes import SmallData
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, PlainModule, images, trained, trainer
from tests.cli.commands import CONFIGS, FEW_IMAGES, SMALL_NET, Built, run

SHAPE = {"in_channels": CHANNELS, "image_size": (SIZE, SIZE)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A diffusion model of random weights."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    DiffusionModule((8, 8), conditional=True, num_classes=CLASSES, **SHAPE).save_pretrained(str(folder))
    return str(folder)


def made(exported: str, folder: Path, **options: object) -> GeneratedImages:
    callback = GeneratedImages(
        exported, str(folder), **({"per_class": 3, "keep": 0.3, "steps": 2, "piece": 7} | options)
    )
    run = trainer(callback, folder=folder)
    run.validate(trained(), DataLoader(images(16), batch_size=8), verbose=False)
    return callback


def test_the_surest_of_each_class_are_kept_with_their_labels(exported, tmp_path):
    callback = made(exported, tmp_path)
    number = torch.arange(10 * CLASSES)  # 3 / .3 of each
    pieces = [DiffusionGenerator(exported, steps=2)(part % CLASSES, part) for part in number.split(7)]
    levels = (torch.cat(pieces) * 255).round()
    confidence = (
        logits_of(trained().eval(), levels / 255).detach().softmax(1).gather(1, (number % CLASSES)[:, None])[:, 0]
    )
    expected = sorted(
        int(each) for k in range(CLASSES) for each in number[k::CLASSES][confidence[k::CLASSES].topk(3).indices]
    )
    with np.load(tmp_path / "generated.npz", allow_pickle=False) as kept:
        image, label = kept["image"], kept["label"]
    assert torch.equal(torch.from_numpy(image), levels[expected].byte())
    assert label.tolist() == [each % CLASSES for each in expected]
    result = callback.result
    assert result.confidence.mean(1) == pytest.approx(
        torch.stack([confidence[k::CLASSES].topk(3).values.mean() for k in range(CLASSES)])
    )
    assert result.made == 10
    assert result.scalars()["lowest_confidence"] == pytest.approx(float(confidence[expected].min()))
    assert [row[1:4:2] for row in result.tables()[0].rows] == [[10, 3]] * CLASSES
    assert "40 generated images" in result.summary()
    assert "12 kept" in result.summary()
    assert result.pictures()[0].draw().axes[0].images


def test_pieces_that_are_there_are_not_made_again_and_another_seed_has_its_own(exported, tmp_path):
    made(exported, tmp_path)
    first = (tmp_path / "generated.npz").read_bytes()
    (folder,) = (tmp_path / "candidates").iterdir()
    one, *others = sorted(folder.iterdir())
    assert len(others) == 5
    times = [each.stat().st_mtime_ns for each in others]
    one.unlink()  # as if the run had been killed before it
    made(exported, tmp_path)
    assert [each.stat().st_mtime_ns for each in others] == times
    assert (tmp_path / "generated.npz").read_bytes() == first
    made(exported, tmp_path, seed=1)
    assert len(list((tmp_path / "candidates").iterdir())) == 2
    assert (tmp_path / "generated.npz").read_bytes() != first


def test_they_are_mixed_into_training(exported, tmp_path):
    made(exported, tmp_path)
    batch = next(iter(MixedDataModule(SmallData(), str(tmp_path / "generated.npz"), 0.5).train_dataloader()))
    assert (int((batch.index < 0).sum()), len(batch.label)) == (4, 8)


class Undecided(PlainModule):
    """Knows no class but the first, of which it is never quite sure, and says nothing of dark images."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), CLASSES, device=x.device) + torch.tensor([1.0, 0, 0, 0])
        return torch.where(x.mean(dim=(1, 2, 3)).view(-1, 1) < 0.5, torch.nan, logits)


def test_images_without_a_class_are_the_last_to_be_kept_and_are_said(exported, tmp_path):
    callback = GeneratedImages(exported, str(tmp_path), per_class=2, steps=2, piece=8)
    trainer(callback).validate(Undecided(), DataLoader(images(16), batch_size=8), verbose=False)
    result = callback.result
    dark = DiffusionGenerator(exported, steps=2)(torch.arange(16) % 4, torch.arange(16)).mean(dim=(1, 2, 3)) < 0.5
    assert 0 < int(dark.sum()) < 16
    others = 8 - min(2, int((~dark[::4]).sum()))
    assert result.warnings == [
        f"{int(dark.sum())} of 16 images have NaN logits: they count as wrong",
        f"{others} of the 8 images kept are of another class to the classifier: keep a smaller share, or train the "
        "diffusion model for longer",
    ]
    assert result.recognised.tolist() == [int((~dark[::4]).sum()), 0, 0, 0]
    with np.load(tmp_path / "generated.npz", allow_pickle=False) as kept:
        brightness = torch.from_numpy(kept["image"]).float().mean(dim=(1, 2, 3)) / 255
        for k in range(CLASSES):
            own = brightness[torch.from_numpy(kept["label"]) == k]
            assert int((own > 0.5).sum()) == min(2, int((~dark[k::CLASSES]).sum()))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"per_class": 0}, "per_class of GeneratedImages"), ({"keep": 0.0}, r"keep must lie in \(0, 1\]")],
)
def test_numbers_out_of_range_are_refused(options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        GeneratedImages("x", str(tmp_path), **({"per_class": 1} | options))


def test_a_diffusion_model_of_other_classes_is_refused_before_anything_is_made(tmp_path):
    DiffusionModule((8, 8), conditional=True, num_classes=5, **SHAPE).save_pretrained(str(tmp_path / "five"))
    with pytest.raises(InputError, match=r"makes images of 5 classes .* the classifier sees 4 classes"):
        made(str(tmp_path / "five"), tmp_path)
    assert not (tmp_path / "candidates").exists()


def test_three_commands_close_the_loop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ("--data=MNISTSubset", *FEW_IMAGES, "--trainer.max_epochs=1")
    small = [*own, "--model.channels=[8,8]", "--model.timesteps=20"]
    few = [*own, *SMALL_NET, "--trainer.callbacks.per_class=4", "--trainer.callbacks.steps=2"]
    quiet = "--trainer.callbacks.pictures=never"
    mixed = [each.replace("--data.", "--data.data.").replace("--data=", "--data.data=") for each in own]
    short = ["--trainer.callbacks.max_samples=4", "--model.backbone_options={width: 4, hidden: 16}"]
    for name, options in (
        ("mnist_diffusion", small),
        ("mnist_images", [*few, quiet]),
        ("mnist_pgd", [*mixed, *short, quiet]),
    ):
        outcome = run(["fit", "--config", CONFIGS / "generate" / f"{name}.yaml", *options])
        assert outcome.status == 0, outcome.err
    with np.load("runs/generate/generated.npz", allow_pickle=False) as kept:
        assert np.bincount(kept["label"]).tolist() == [4] * 10


def test_the_third_command_mixes_what_the_second_leaves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second, third = (
        Built(["fit", "--config", CONFIGS / "generate" / f"mnist_{name}.yaml"])
        for name in ("diffusion", "images", "pgd")
    )
    (callback,) = (each for each in second.trainer.callbacks if isinstance(each, GeneratedImages))
    assert callback.path == first.model.export
    assert third.datamodule.extra == f"{callback.export}/generated.npz"
