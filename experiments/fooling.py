"""Fooling images (Nguyen, Yosinski, Clune, 2015) of an MNIST network: gradient, direct and indirect encoding.

``python -m experiments.fooling --root data``: resumable; the network and each method's images are kept under ``--run``.
``--quick`` learns from 10,000 images and takes 200 generations instead of 1,000.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from experiments.page import RESULTS, write_page
from experiments.transferability_models import error, network
from lightning_adv.data import MNIST, ImageDataModule, float_images
from lightning_adv.files import replace_atomically
from lightning_adv.fooling import Fooling, FoolingCPPN, FoolingEvolution, FoolingGradient, FoolingSet
from lightning_adv.models import create_model
from lightning_adv.reports.run import run_info
from lightning_adv.results.figures import png
from lightning_adv.results.fooling import FoolingResult

SHAPE = (1, 28, 28)


def main() -> None:
    """Make what is missing, write the page and its pictures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--run", default="runs/fooling")
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    started = datetime.now(UTC)
    run = Path(given.run) / ("quick" if given.quick else "full")
    run.mkdir(parents=True, exist_ok=True)
    images = MNIST(root=given.root)
    images.setup()
    count, generations = (10_000, 200) if given.quick else (54_000, 1000)
    model = _model(run / "model.pt", images, count)
    methods: dict[str, Fooling] = {
        "gradient": FoolingGradient(steps=200),
        "direct": FoolingEvolution(generations=generations),
        "CPPN": FoolingCPPN(generations=generations),
    }
    kept = {name: _kept(run / f"{name}.pt", method, model) for name, method in methods.items()}
    result = FoolingResult(
        title="Fooling images",
        found={name: found for name, (found, _) in kept.items()},
        class_names=images.class_names,
        seconds={name: seconds for name, (_, seconds) in kept.items()},
    )
    stem = "fooling_quick" if given.quick else "fooling"
    for picture in result.pictures():
        path = RESULTS / f"{stem}_{picture.name.removeprefix('fooling_')}.png"
        replace_atomically(path, png(picture.draw(), dpi=130))
    test = images.datasets["test"]
    wrong = error(model, float_images(test.images), test.labels)
    text = (
        f"`mnist_cnn` learnt from {count:,} images, test error {100 * wrong:.2f} %. Evolution is MAP-Elites over the "
        "ten classes with 200 children a generation. The review reports a median confidence of 99.99 % for the direct "
        f"encoding by 200 generations. {result.summary()}\n\n![gallery]({stem}_gallery.png)\n\n![medians]"
        f"({stem}_curves.png)"
    )
    command = ["python", "-m", "experiments.fooling", "--root", "data", *(["--quick"] if given.quick else [])]
    info = run_info(0, given.run, started, finished=datetime.now(UTC), command=command)
    print(write_page(stem, "Fooling images", text, result.tables(), info, f"MNIST, {count:,} to train, 10,000 to test"))


def _model(path: Path, images: ImageDataModule, count: int) -> nn.Module:
    if not path.is_file():
        train = images.datasets["train"]
        model = network(float_images(train.images[:count]), train.labels[:count], epochs=4)
        _save(path, model.state_dict())
    model = create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28))
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def _kept(path: Path, method: Fooling, model: nn.Module) -> tuple[FoolingSet, float]:
    """Images of a method and the seconds it took."""
    if not path.is_file():
        began = time.perf_counter()
        found = method(model, SHAPE)
        _save(path, vars(found) | {"seconds": time.perf_counter() - began})
        print(path.stem, found.median_confidence, flush=True)
    kept = torch.load(path, weights_only=True)
    seconds = kept.pop("seconds")
    return FoolingSet(**kept), seconds


def _save(path: Path, content: dict) -> None:
    replace_atomically(path, lambda file: torch.save(content, file))


if __name__ == "__main__":
    main()
