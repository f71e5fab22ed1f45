"""What robust training and its evaluation cost at scale, by counting: ``docs/results/scaling_plan.md``.

``python -m benchmarks.plan``: operations of one forward are counted by torch on the meta device, passes follow from the
algorithms, times from a rate that is an assumption and says so. Nothing here is measured.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench import bench
from experiments.page import prose
from lightning_adv.models import create_model
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

GPUS = (1, 8, 64)
RATE = {"bf16": 300e12, "float32 (TF32)": 150e12}
"""Operations a second that a GPU of the H100 generation sustains on convolutions, about a third of its peak."""

EFFICIENCY = {1: 1.0, 8: 0.92, 64: 0.8}
"""Of many GPUs beside one: gradients are exchanged in training, survivors are uneven in evaluation."""


@dataclass(frozen=True)
class Job:
    """One thing to do.

    Args:
        name: for the table.
        passes: forwards an image, once; a backward to the image counts as one, one to the weights and it as two.
        counted: how ``passes`` comes about.
        images: images it is done to, epochs included.
        precision: key of ``RATE``.
    """

    name: str
    passes: float
    counted: str
    images: int
    precision: str


def main() -> None:
    """Count and write."""
    page = bench("plan", "scaling_plan")
    cifar = _operations("wide_resnet28_10", 10, 32)
    imagenet = _operations("resnet50", 1000, 224)
    tables = [
        _table("CIFAR-10, WideResNet-28-10", cifar, _jobs(50_000, 110, "PGD-10", 10, test=10_000, robust=0.55)),
        _table("ImageNet, ResNet-50", imagenet, _jobs(1_281_167, 15, "FGSM-RS", 1, test=5_000, robust=0.25)),
    ]
    rates = ", ".join(f"{rate / 1e12:.0f} TFLOP/s in {name}" for name, rate in RATE.items())
    shares = ", ".join(f"{share:.0%} of it on {count}" for count, share in EFFICIENCY.items() if count > 1)
    text = prose(__file__, cifar=cifar / 1e9, imagenet=imagenet / 1e9, rates=rates, shares=shares)
    page.write(text, tables, "none, shapes alone")


def _operations(name: str, classes: int, side: int) -> float:
    """Operations of one forward; a multiplication and an addition are two."""
    with torch.device("meta"):
        model: nn.Module = create_model(name, num_classes=classes, in_channels=3, image_size=(side, side)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, side, side))
    return float(counter.get_total_flops())


def _jobs(train: int, epochs: int, attack: str, steps: int, test: int, robust: float) -> list[Job]:
    suite = 100 * 10 * 2 + 9 * 100 * 3 + 5000
    mean = robust * suite + (1 - robust) * suite / 20
    return [
        Job(f"{attack} training, {epochs} epochs", 2 * steps + 3, f"{steps} x 2 + 3", train * epochs, "bf16"),
        Job(f"PGD-20 on {test:,} images after every epoch", 41, "20 x 2 + 1", test * epochs, "bf16"),
        Job(
            f"AutoAttack on {test:,} images, {robust:.0%} robust",
            mean,
            f"{suite:,} a robust image",
            test,
            "float32 (TF32)",
        ),
    ]


def _table(title: str, operations: float, jobs: list[Job]) -> Table:
    rows: list[list[Cell]] = []
    for job in jobs:
        total = job.passes * job.images * operations
        hours = [_time(total / RATE[job.precision] / count / EFFICIENCY[count]) for count in GPUS]
        rows.append([job.name, job.counted, f"{job.passes:,.0f}", f"{total / 1e18:.3g}", job.precision, *hours])
    gpus = [f"{count} GPU{'s' * (count > 1)}" for count in GPUS]
    return Table(title, ["what", "passes", "an image, mean", "10^18 operations", "precision", *gpus], rows)


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    main()
