"""Adversarial training with and without generated images, from a generator that saw no other images.

``python -m experiments.generated_data --root data``: resumable; what was made and measured is kept under ``--run``.
"""

import logging
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule, LightningModule, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint

from experiments.classifiers import silent_trainer
from experiments.command import arguments, command, show
from experiments.kept import Kept
from experiments.networks import all_predicted, attacked, images_of
from experiments.page import Page, prose
from experiments.records import claim
from lightning_adv.attacks import PGD, AutoAttack
from lightning_adv.callbacks import GeneratedImages
from lightning_adv.cli.entry import quiet
from lightning_adv.data import MixedDataModule, MNISTSubset
from lightning_adv.modules import ClassifierModule, DiffusionModule
from lightning_adv.objectives import AdversarialTraining, Objective
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval

__all__ = ["gain", "main"]

EPS = 0.1
"""Linf radius of training and judgement."""

WARMUP = 20
"""Epochs over which the radius grows. Without, training on generated images got nowhere from two of three seeds."""

SEEDS = (0, 1, 2)
SHARES = (0.0, 0.5)

Figures = dict[str, int | list[int]]
"""Images that are right clean, training images that are under PGD, and whether each test image is under AutoAttack."""

COLUMNS = ["generated share", *(f"robust, seed {seed}" for seed in SEEDS)]
COLUMNS += ["robust accuracy", "95% interval", "clean accuracy", "robust, training"]


@dataclass(frozen=True)
class Size:
    """How much is learnt and judged.

    Args:
        images: training images, of the generator, of what chooses and of the classifiers.
        channels: of the diffusion model.
        diffusion_steps: of its training, of 64 images each.
        per_class: generated images of a class that are kept.
        keep: their share of those that are made.
        sampling_steps: evaluations of the network for an image.
        steps: of adversarial training, of 128 images each.
        judged: test images under AutoAttack, and training images under PGD.
    """

    images: int = 1000
    channels: tuple[int, ...] = (8, 16, 32)
    diffusion_steps: int = 6400
    per_class: int = 200
    keep: float = 0.2
    sampling_steps: int = 25
    steps: int = 1000
    judged: int = 1000


QUICK = Size(100, (8, 8), 2, 4, 0.5, 2, 2, 4)


def main() -> None:
    """Make and train what is missing, judge it, write the page."""
    parser = arguments(__doc__, run="runs/generated_data", quick="tiny, to see that it runs; no page")
    given = parser.parse_args()
    quiet()
    logging.disable(logging.WARNING)
    size = QUICK if given.quick else Size()
    run = Path(given.run) / ("quick" if given.quick else "full")
    page = Page("experiments.generated_data", "generated_data", given.run, given=["--root", "data"])
    claim(run / "measured", repr(size))
    chosen = Kept(run).figures("generated", partial(_make_images, size, run), repr(size))
    found = {share: [_found(share, seed, size, run) for seed in SEEDS] for share in SHARES}
    rows = [_row(share, each) for share, each in found.items()]
    gained, interval = gain(*found.values())
    if given.quick:
        return
    shares = ("robust accuracy", "clean accuracy", "robust, training", *COLUMNS[1 : 1 + len(SEEDS)])
    table = Table("With and without generated images", COLUMNS, rows, percent=shares, note=prose(__file__, "Columns"))
    words = f"{100 * gained:.2f} points (95 % interval {100 * interval[0]:.2f} to {100 * interval[1]:.2f})"
    said = {**vars(size), "gain": words, "made": round(size.per_class / size.keep), "warmup": WARMUP, **chosen}
    page.write(prose(__file__, eps=EPS, **said), [table], "MNISTSubset")


def _data(size: Size, batch_size: int, seed: int = 0) -> MNISTSubset:
    """The same training images whatever the seed, which is that of their order."""
    data = MNISTSubset(batch_size=batch_size, eval_batch_size=50, max_train_samples=size.images)
    data.setup("fit")
    data.seed = seed
    return data


def _fit(module: LightningModule, data: LightningDataModule, steps: int, folder: Path | None = None) -> None:
    """Train for so many steps; with a folder, go on from where a run that was killed had come to."""
    kept = [ModelCheckpoint(folder, every_n_train_steps=100, save_last=True)] if folder else []
    last = folder / "last.ckpt" if folder and (folder / "last.ckpt").is_file() else None
    trainer = silent_trainer(*kept, max_steps=steps, limit_val_batches=0, enable_checkpointing=bool(kept))
    trainer.fit(module, data, ckpt_path=last, weights_only=True)


def _classifier(steps: int, objective: Objective | None = None) -> ClassifierModule:
    return ClassifierModule(
        "mnist_cnn",
        objective=objective,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=3e-3, total_steps=steps + 1),
        lr_interval="step",
        num_classes=10,
        in_channels=1,
        image_size=(28, 28),
        mean=MNISTSubset.mean,
        std=MNISTSubset.std,
        backbone_options={"width": 8, "hidden": 64},
    )


def _make_images(size: Size, run: Path) -> dict[str, float]:
    """The three commands' first two: a generator, and what a classifier keeps of what it makes."""
    exported = run / "exported"
    if not exported.is_dir():
        seed_everything(0)
        shape = {"in_channels": 1, "image_size": (28, 28), "num_classes": 10}
        generator = DiffusionModule(size.channels, conditional=True, lr=2e-3, export=str(exported), **shape)
        _fit(generator, _data(size, 64), size.diffusion_steps, run / "generator")
    seed_everything(0)
    classifier = _classifier(size.steps)
    _fit(classifier, _data(size, 128), size.steps)
    made = GeneratedImages(str(exported), str(run), size.per_class, size.keep, steps=size.sampling_steps)
    silent_trainer(made).validate(classifier, _data(size, 128), verbose=False)
    return made.result.scalars()


def _found(share: float, seed: int, size: Size, run: Path) -> Figures:
    """What AutoAttack leaves after training with this share of generated images."""
    make = partial(_measured, share, seed, size, run)
    return Kept(run / "measured").figures(f"{share:g}-{seed}", make, f"{size} {share}, verdicts by image")


def _row(share: float, found: list[Figures]) -> list[Cell]:
    """A share with every seed."""
    robust = [sum(each["robust"]) / len(each["robust"]) for each in found]
    judged = sum(len(each["robust"]) for each in found)
    interval = wilson_interval(sum(sum(each["robust"]) for each in found), judged)
    means = (statistics.mean(each[key] / len(each["robust"]) for each in found) for key in ("clean", "training"))
    row: list[Cell] = [f"{share:g}", *robust, statistics.mean(robust), percent_interval(interval), *means]
    show(row)
    return row


def gain(without: list[Figures], with_them: list[Figures]) -> tuple[float, tuple[float, float]]:
    """Robust accuracy gained, and its 95 % interval over images, each of which all networks have judged."""
    before, after = (torch.tensor([each["robust"] for each in found]).double() for found in (without, with_them))
    gained = (after - before).mean(dim=0)  # an image's verdicts hang together
    half = 1.96 * (gained.std() / len(gained) ** 0.5).item()
    mean = gained.mean().item()
    return mean, (mean - half, mean + half)


def _measured(share: float, seed: int, size: Size, run: Path) -> Figures:
    seed_everything(seed)
    data = _data(size, 128, seed)
    attack = PGD(eps=EPS, step_size=EPS / 4, steps=7)
    module = _classifier(size.steps, AdversarialTraining(attack, warmup_epochs=WARMUP))
    mixed = MixedDataModule(data, str(run / "generated.npz"), share) if share else data
    _fit(module, mixed, size.steps)
    (x, y), (own, label) = (images_of(data, split, 0, size.judged) for split in ("test", "train"))
    module.eval()
    clean = all_predicted(module, x) == y
    robust = all_predicted(module, attacked(AutoAttack(EPS), module, x, y, 250)) == y
    learnt = all_predicted(module, attacked(PGD(EPS, EPS / 10, steps=40), module, own, label, 500)) == label
    return {"clean": int(clean.sum()), "robust": robust.int().tolist(), "training": int(learnt.sum())}


if __name__ == "__main__":
    command(main)
