"""Adversarial images in the physical world (Kurakin, Goodfellow, Bengio, 2017) and kinds of outcome (Billovits et al.).

``python -m experiments.physical --root data``: an MNIST and a CIFAR-10 network, 2,000 test images of each and their
simulated photographs. Resumable: the networks and each attack's figures are kept under ``--run``.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from experiments.classifiers import CIFAR10_NET, CIFAR10_RUN, trained
from experiments.command import arguments
from experiments.networks import images_of, kept_network, network
from experiments.page import Page, prose
from experiments.physical.bench import STEPS, Bench
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule

__all__ = ["main"]

SETS: dict[str, Callable[..., ImageDataModule]] = {"MNIST": MNIST, "CIFAR-10": CIFAR10}


def main() -> None:
    """Measure what is missing, write the page and a picture."""
    quick = "MNIST alone, learns from 10,000 images and attacks 500"
    given = arguments(__doc__, run="runs/physical", quick=quick).parse_args()
    page = Page("experiments.physical", f"physical{'_quick' * given.quick}", given.run)
    learnt, count = (10_000, 500) if given.quick else (54_000, 2000)
    kept = Path(given.run) / ("quick" if given.quick else "full")
    tables, pictures = [], []
    for name in ["MNIST"] if given.quick else list(SETS):
        images = SETS[name](root=given.root)
        images.setup()
        if name == "MNIST":
            model = kept_network(kept, "model", partial(_learnt, images, learnt))
        else:
            model = trained("CIFAR10", given.root, CIFAR10_RUN, CIFAR10_NET).float()
        bench = Bench(name, kept if name == "MNIST" else kept / name, images, model, count)
        pictures.append(f"![photographs]({page.picture(bench.picture(), name)})")
        tables += [bench.destruction(), bench.outcomes()]
    net = "" if given.quick else "; on CIFAR-10 a network of twelve layers, 30 epochs"
    text = prose(__file__, learnt=learnt, net=net, count=count, steps=STEPS, pictures="\n\n".join(pictures))
    page.write(text, tables, "MNIST" if given.quick else "MNIST and CIFAR-10")


def _learnt(images: ImageDataModule, count: int) -> nn.Module:
    return network(*images_of(images, "train", 0, count), epochs=4)


if __name__ == "__main__":
    main()
