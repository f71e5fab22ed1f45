"""Peak memory of an evaluation on images of 224 x 224, over their number; each figure in a process of its own.

``python -m benchmarks.evaluation_memory --images 512`` is one figure; :func:`memory_rows` has the table of
``python -m benchmarks.performance``. Images are made when they are asked for, as a folder's are decoded.
"""

import argparse
import json
import warnings

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.bench import Used, in_a_process
from experiments.classifiers import silent_trainer
from experiments.command import command, show
from experiments.page import prose
from lightning_adv.attacks import APGD, PGD, Square
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.models import create_model
from lightning_adv.modules import ClassifierModule
from lightning_adv.results.result import Cell

__all__ = ["COLUMNS", "NOTE", "memory_rows"]

COLUMNS = ["images", "MiB", "seconds"]
SIZE, BATCH = 224, 8
NOTE = prose(__file__, size=SIZE, batch=BATCH)


def memory_rows() -> list[list[Cell]]:
    """Rows of ``COLUMNS``."""
    rows: list[list[Cell]] = []
    for images in (16, 64, 256):
        rows.append([str(images), *in_a_process("benchmarks.evaluation_memory", "--images", images)])
        show(rows[-1])
    return rows


class _Noise(Dataset):
    """Random images, all labelled 0, made anew at every call."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(position)
        return torch.rand(3, SIZE, SIZE, generator=generator), 0


def main() -> None:
    """Evaluate so many images; print MiB and seconds."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, required=True)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    described = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    model = create_model("mobilenetv3_small_100", num_classes=10, in_channels=3, image_size=(SIZE, SIZE), **described)
    with torch.no_grad():  # all are of class 0, so that every image is attacked
        next(reversed(list(model.parameters())))[0] += 100
    attacks = {"pgd": PGD(1 / 255, steps=3), "apgd": APGD(1 / 255, steps=3), "square": Square(1 / 255, queries=20)}
    evaluation = AttackEvaluation(attacks, batch_size=BATCH, pictures="always")
    trainer = silent_trainer(evaluation, enable_checkpointing=False)
    module = ClassifierModule(model, num_classes=10)
    used = Used()
    trainer.test(module, DataLoader(_Noise(given.images), batch_size=BATCH), verbose=False)
    assert evaluation.result.samples == given.images
    print(json.dumps(used()))


if __name__ == "__main__":
    command(main)
