"""Fooling images (Nguyen, Yosinski, Clune, 2015) of an MNIST network: gradient, direct and indirect encoding.

``python -m experiments.fooling --root data``: resumable; the network and each method's images are kept under ``--run``.
"""

import time
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from experiments.command import arguments
from experiments.kept import Kept
from experiments.networks import error, images_of, kept_network, network
from experiments.page import Page, prose
from lightning_adv.data import MNIST
from lightning_adv.fooling import Fooling, FoolingCPPN, FoolingEvolution, FoolingGradient, FoolingSet
from lightning_adv.results.fooling import FoolingResult

__all__ = ["main"]

SHAPE = (1, 28, 28)


def main() -> None:
    """Make what is missing, write the page and its pictures."""
    quick = "learns from 10,000 images and takes 200 generations instead of 1,000"
    given = arguments(__doc__, run="runs/fooling", quick=quick).parse_args()
    page = Page("experiments.fooling", f"fooling{'_quick' * given.quick}", given.run)
    run = Path(given.run) / ("quick" if given.quick else "full")
    images = MNIST(root=given.root)
    images.setup()
    count, generations = (10_000, 200) if given.quick else (54_000, 1000)
    model = kept_network(run, "model", lambda: network(*images_of(images, "train", 0, count), epochs=4))
    methods: dict[str, Fooling] = {
        "gradient": FoolingGradient(steps=200),
        "direct": FoolingEvolution(generations=generations),
        "CPPN": FoolingCPPN(generations=generations),
    }
    kept = {name: Kept(run).tensors(name, partial(_made, method, model)) for name, method in methods.items()}
    seconds = {name: found.pop("seconds") for name, found in kept.items()}
    result = FoolingResult(
        title="Fooling images",
        found={name: FoolingSet(**found) for name, found in kept.items()},
        class_names=images.class_names,
        seconds=seconds,
    )
    for picture in result.pictures():
        page.picture(picture.draw(), picture.name.removeprefix("fooling_"))
    wrong = 100 * error(model, *images_of(images, "test"))
    text = prose(__file__, count=count, wrong=wrong, summary=result.summary(), stem=page.stem)
    page.write(text, result.tables(), f"MNIST, {count:,} to train, 10,000 to test")


def _made(method: Fooling, model: nn.Module) -> dict[str, Tensor | float]:
    """Images of a method and the seconds it took."""
    began = time.perf_counter()
    found = method(model, SHAPE)
    return {**vars(found), "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
