"""Fooling images (Nguyen, Yosinski, Clune, 2015): gradient, direct and indirect encoding.

``python -m experiments.fooling --root data`` on an MNIST network, ``--photographs`` on one that has learnt ten classes
of Tiny ImageNet. Resumable: the network and each method's images are kept under ``--run``.
"""

import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from experiments.classifiers import ADAM, trained
from experiments.command import arguments, command
from experiments.kept import Kept
from experiments.networks import error, images_of, kept_network, network
from experiments.page import Page, prose
from lightning_adv.data import MNIST, ImageFolder
from lightning_adv.fooling import Fooling, FoolingCPPN, FoolingEvolution, FoolingGradient, FoolingSet
from lightning_adv.results.fooling import FoolingResult

__all__ = ["main"]

PHOTOGRAPHS = "tiny-imagenet-10"
PHOTOGRAPHS_NET = (
    "--data.image_size=64",
    "--data.crop_scale=[0.3, 1.0]",
    "--model.backbone=preact_resnet18",
    "--model.backbone_options={width: 16}",
    "--model.channels_last=true",
    *ADAM,
    "--model.lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR",
    "--model.lr_scheduler.T_max=25",
    "--trainer.max_epochs=25",
    "--trainer.precision=bf16-mixed",
)


class Subject(NamedTuple):
    """A network that is to be fooled.

    Args:
        model: in eval mode.
        shape: (C, H, W) of its images.
        names: of its classes.
        wrong: its error on test images.
        learnt: what it is, and what from.
        images: how many of which set, for the page.
    """

    model: nn.Module
    shape: tuple[int, int, int]
    names: list[str]
    wrong: float
    learnt: str
    images: str


def main() -> None:
    """Make what is missing, write the page and its pictures."""
    quick = "learns from 10,000 digits and takes 200 generations instead of 1,000"
    parser = arguments(__doc__, run="runs/fooling", quick=quick)
    parser.add_argument("--photographs", action="store_true", help="Tiny ImageNet in place of MNIST")
    given = parser.parse_args()
    stem = f"fooling{'_photographs' * given.photographs}{'_quick' * given.quick}"
    page = Page("experiments.fooling", stem, given.run)
    run = Path(given.run) / f"{'photographs_' * given.photographs}{'quick' if given.quick else 'full'}"
    subject = _photographs(given.root, run) if given.photographs else _digits(given.root, run, given.quick)
    generations = 200 if given.quick else 1000
    methods: dict[str, Fooling] = {
        "gradient": FoolingGradient(steps=200),
        "direct": FoolingEvolution(generations=generations),
        "CPPN": FoolingCPPN(generations=generations),
    }
    kept = {name: Kept(run).tensors(name, partial(_made, method, subject)) for name, method in methods.items()}
    seconds = {name: found.pop("seconds") for name, found in kept.items()}
    result = FoolingResult(
        title="Fooling images",
        found={name: FoolingSet(**found) for name, found in kept.items()},
        class_names=subject.names,
        seconds=seconds,
    )
    for picture in result.pictures():
        page.picture(picture.draw(), picture.name.removeprefix("fooling_"))
    said = prose(__file__, "Photographs" if given.photographs else "Digits")
    text = prose(
        __file__, learnt=subject.learnt, wrong=100 * subject.wrong, said=said, summary=result.summary(), stem=page.stem
    )
    page.write(text, result.tables(), subject.images)


def _digits(root: str, run: Path, quick: bool) -> Subject:
    images = MNIST(root=root)
    images.setup()
    count = 10_000 if quick else 54_000
    model = kept_network(run, "model", lambda: network(*images_of(images, "train", 0, count), epochs=4))
    wrong = error(model, *images_of(images, "test"))
    sets = f"MNIST, {count:,} to train, 10,000 to test"
    return Subject(model, (1, 28, 28), images.class_names, wrong, f"`mnist_cnn` learnt from {count:,} images", sets)


def _photographs(root: str, run: Path) -> Subject:
    """A residual network that has learnt ten classes of Tiny ImageNet by the command line."""
    folder = Path(root, PHOTOGRAPHS)
    model = trained("ImageFolder", str(folder), run / "classifier", PHOTOGRAPHS_NET).float()
    images = ImageFolder(root=str(folder), image_size=64)
    images.setup()
    image, label = images_of(images, "test")
    words = dict(line.split("\t") for line in (folder / "words.txt").read_text().splitlines())
    names = [words[name].partition(",")[0] for name in images.class_names]
    count = len(images.datasets["train"])
    learnt = f"A PreAct ResNet-18 of width 16 learnt from {count:,} photographs of 64x64 in 25 epochs"
    sets = f"Tiny ImageNet, {len(names)} classes, {count:,} to train, {len(label)} to test"
    return Subject(model, (3, 64, 64), names, error(model, image, label), learnt, sets)


def _made(method: Fooling, subject: Subject) -> dict[str, Tensor | float]:
    """Images of a method and the seconds it took."""
    began = time.perf_counter()
    found = method(subject.model, subject.shape)
    return {**vars(found), "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    command(main)
