"""Cost of the detectors in one run: time an image, memory with 60,000 references, batched SPRT beside the loop.

``python -m benchmarks.detectors --root data``: writes ``docs/results/detectors.md``.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.bench import bench, peak_mib
from experiments.classifiers import trained
from experiments.command import arguments, command, show
from experiments.cost import quickest, seconds
from experiments.nmutant.samples import SETTINGS
from experiments.page import prose
from lightning_adv.data import MNIST, float_images
from lightning_adv.detectors import (
    STRIP,
    Detector,
    KernelDensity,
    LabelChangeRate,
    LocalIntrinsicDimensionality,
    ModelUncertainty,
    UniformMutation,
    predicted_labels,
)
from lightning_adv.detectors.mutation import mutation_noise
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

PAPER = {"KD": 2516.8, "MU": 34.66, "LID": 2067.7, "LCR, sequential test": 49.8}
"""Table 6 of nMutant, MNIST, milliseconds an image."""


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__, run="runs/nmutant/MNIST")
    parser.add_argument("--samples", type=int, default=50)
    given = parser.parse_args()
    page = bench("detectors")
    model = trained("MNIST", given.root, Path(given.run) / "training", SETTINGS["MNIST"].training)
    images = MNIST(root=given.root, val_size=0, calibration_size=0)  # all 60,000 to train
    images.setup()
    train, test = images.datasets["train"], images.datasets["test"]
    x = float_images(test[list(range(given.samples))].image)
    loader = [(each.image, each.label) for each in (train[part.tolist()] for part in torch.arange(60_000).split(1000))]
    detectors: dict[str, Detector] = {
        "KD": KernelDensity(),
        "MU": ModelUncertainty(),
        "LID": LocalIntrinsicDimensionality(reference_samples=None, minibatch=None),
        "STRIP": STRIP(),
        "LCR, 500 mutations": LabelChangeRate(UniformMutation(0.5), kappa_1=0.02, mu=1.5),
    }
    rows: list[list[Cell]] = []
    for name, detector in detectors.items():
        fitting = seconds(lambda detector=detector: detector.fit(model, loader), time.perf_counter)
        scoring = _quickest(lambda detector=detector: detector.score(model, x))
        rows.append([name, fitting, 1000 * scoring / len(x), PAPER.get(name), _peak_gib()])
    lcr = detectors["LCR, 500 mutations"]
    batched = _quickest(lambda: lcr.decide(model, x))
    rows.append(["LCR, sequential test", None, 1000 * batched / len(x), PAPER["LCR, sequential test"], _peak_gib()])
    few = x[: max(1, len(x) // 10)]
    batched_few = _quickest(lambda: lcr.decide(model, few))
    loop = _quickest(lambda: [_one_at_a_time(lcr, model, each[None], i) for i, each in enumerate(few)], 1)
    ratio = loop / batched_few
    rows.append(["LCR, one mutation at a time", None, 1000 * loop / len(few), None, _peak_gib()])
    for row in rows:
        show(row)
    found = lcr.decide(model, few)
    same = all(
        (int(found.mutations[i]), bool(found.suspicious[i])) == _one_at_a_time(lcr, model, each[None], i)
        for i, each in enumerate(few)
    )
    verdict = "the same" if same else "NOT the same"
    text = prose(__file__, images=len(x), threads=torch.get_num_threads(), ratio=ratio, same=verdict)
    columns = ["detector", "seconds to fit", "ms an image", "the paper's ms", "peak GiB of the process so far"]
    page.write(text, [Table("Cost", columns, rows)], "MNIST")


def _quickest(work: Callable[[], object], runs: int = 3) -> float:
    return quickest(work, runs, time.perf_counter)


def _peak_gib() -> float:
    return peak_mib() / 1024


def _one_at_a_time(detector: LabelChangeRate, model: nn.Module, x: Tensor, index: int) -> tuple[int, bool]:
    """Mutations and verdict of Algorithm 1, looked at after every mutation."""
    p0, p1 = detector.hypotheses()
    upper = math.log((1 - detector.beta) / detector.alpha)
    lower = math.log(detector.beta / (1 - detector.alpha))
    with torch.no_grad():
        own = predicted_labels(model, x)
        changes = 0
        for n in range(1, detector.max_mutations + 1):
            noise = mutation_noise(detector.seed, torch.tensor([index]), torch.tensor([n - 1]))
            changes += int(predicted_labels(model, detector.mutation(x, noise)) != own)
            ratio = changes * math.log(p1 / p0) + (n - changes) * math.log((1 - p1) / (1 - p0))
            if ratio >= upper or ratio <= lower:
                return n, ratio >= upper
    return n, False


if __name__ == "__main__":
    command(main)
