"""AutoAttack that searches in bfloat16 beside AutoAttack in float32: verdicts image by image, and time.

``python -m experiments.low_precision --root data``: resumable, a file a portion of images under ``--run``; ``--page``
writes the page of what is there.
"""

import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from experiments.command import arguments, command, show
from experiments.kept import Kept
from experiments.page import Page, prose
from lightning_adv.asking import is_right, logits_of, predicted
from lightning_adv.attacks import AutoAttack, SearchLow
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule, float_images
from lightning_adv.models import computes_in_bf16
from lightning_adv.modules import ClassifierModule
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

NETS = {"zoo/cifar10_fast": 8 / 255, "zoo/mnist_pgd": 0.3, "zoo/cifar10_standard": 8 / 255}
PORTION = 125
COUNTS = ("images", "robust, float32", "robust, bfloat16", "verdicts that differ", "false successes", "searched again")
COLUMNS = ["network", *COUNTS, "CPU seconds, float32", "CPU seconds, bfloat16", "times as fast"]


def main() -> None:
    """Attack what is missing, write the page."""
    parser = arguments(__doc__, run="runs/low_precision", quick="the first portion is 16 images, no page")
    parser.add_argument("--images", type=int, default=1000, help=f"test images, in portions of {PORTION}")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--page", action="store_true", help="write the page of what is there")
    given = parser.parse_args()
    page = Page("experiments.low_precision", "low_precision", given.run, given=["--root", given.root])
    torch.set_num_threads(1)
    kept, rows = Kept(Path(given.run)), []
    for name in given.nets:
        data = _data(name, given.root)
        model = _network(name, data) if not given.page else None
        portions = []
        for number, batch in enumerate(islice(data.test_dataloader(), given.images // PORTION)):
            stem = f"{Path(name).name}_{number}"
            if given.page and not kept.path(stem, "json").is_file():
                continue
            image, label = float_images(batch.image), batch.label
            if given.quick:
                image, label = image[:16], label[:16]
            first = number * PORTION
            both = partial(_both, model, image, label, NETS[name], first)
            portions.append(kept.figures(stem, both, "AutoAttack"))
            if given.quick:
                break
        if portions:
            rows.append([name, *_added(portions)])
            show(rows[-1])
    if given.quick:
        return
    has = "has" if computes_in_bf16(torch.device("cpu")) else "does not have"
    page.write(
        prose(__file__, has=has), [Table("AutoAttack standard", COLUMNS, rows)], "MNIST and CIFAR-10 test images"
    )


def _data(name: str, root: str) -> ImageDataModule:
    data = (CIFAR10 if "cifar10" in name else MNIST)(root=root, eval_batch_size=PORTION)
    data.setup("test")
    return data


def _network(name: str, data: ImageDataModule) -> ClassifierModule:
    facts = {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}
    return ClassifierModule(weights=name, **facts).eval().requires_grad_(False)


def _both(model: ClassifierModule, image: Tensor, label: Tensor, eps: float, first: int) -> list[Cell]:
    """What is counted of a portion, by the names of ``COUNTS``, and the seconds of both searches."""
    with torch.no_grad():
        right = is_right(logits_of(model, image), label)
    x, y, index = image[right], label[right], torch.arange(first, first + len(image))[right]
    attack = AutoAttack(eps)
    began = time.process_time()
    plain = attack.run(model, x, y, index=index)
    between = time.process_time()
    low = SearchLow(attack).run(model, x, y, index=index)
    seconds = [between - began, time.process_time() - between]
    with torch.no_grad():
        false = low.success & (predicted(logits_of(model, low.images)) == y)
    differ = low.success != plain.success
    counts = [int((~each.success).sum()) for each in (plain, low)]
    return [len(image), *counts, int(differ.sum()), int(false.sum()), int(low.near.sum()), *seconds]


def _added(portions: Sequence[list[Cell]]) -> list[Cell]:
    sums = [sum(column) for column in zip(*portions, strict=True)]
    return [*sums, sums[-2] / sums[-1]]


if __name__ == "__main__":
    command(main)
