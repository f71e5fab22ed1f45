"""Cost of the detectors in one run: time an image, memory with 60,000 references, batched SPRT beside the loop.

``python -m benchmarks.detectors --root data``: writes ``docs/results/detectors.md``.
"""

import argparse
import math
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.classifiers import trained
from experiments.nmutant_samples import SETTINGS
from experiments.page import write_page
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
from lightning_adv.reports.run import run_info
from lightning_adv.results.result import Cell, Table

COMMAND = ["python", "-m", "benchmarks.detectors"]
PAPER = {"KD": 2516.8, "MU": 34.66, "LID": 2067.7, "LCR, sequential test": 49.8}
"""Table 6 of nMutant, MNIST, milliseconds an image."""


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--run", default="runs/nmutant/MNIST")
    arguments.add_argument("--samples", type=int, default=50)
    given = arguments.parse_args()
    started = datetime.now(UTC)
    model = trained("MNIST", given.root, Path(given.run) / "training", SETTINGS["MNIST"].training)
    images = MNIST(root=given.root, val_size=0, calibration_size=0)  # all 60,000 to train
    images.setup()
    train, test = images.datasets["train"], images.datasets["test"]
    x = float_images(test[list(range(given.samples))].image)
    loader = [(each.image, each.label) for each in (train[part.tolist()] for part in torch.arange(60_000).split(1000))]
    detectors: dict[str, Detector] = {
        "KD": KernelDensity(),
        "MU": ModelUncertainty(),
        "LID": LocalIntrinsicDimensionality(reference_samples=None),
        "STRIP": STRIP(),
        "LCR, 500 mutations": LabelChangeRate(UniformMutation(0.5), kappa_1=0.02, mu=1.5),
    }
    rows: list[list[Cell]] = []
    for name, detector in detectors.items():
        began = time.perf_counter()
        detector.fit(model, loader)
        fitting = time.perf_counter() - began
        seconds = _timed(lambda detector=detector: detector.score(model, x))
        rows.append([name, fitting, 1000 * seconds / len(x), PAPER.get(name), _peak_gib()])
    lcr = detectors["LCR, 500 mutations"]
    batched = _timed(lambda: lcr.decide(model, x))
    rows.append(["LCR, sequential test", None, 1000 * batched / len(x), PAPER["LCR, sequential test"], _peak_gib()])
    few = x[: max(1, len(x) // 10)]
    batched_few = _timed(lambda: lcr.decide(model, few))
    loop = _timed(lambda: [_one_at_a_time(lcr, model, each[None], i) for i, each in enumerate(few)], repeats=1)
    ratio = loop / batched_few
    rows.append(["LCR, one mutation at a time", None, 1000 * loop / len(few), None, _peak_gib()])
    for row in rows:
        print(*(f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row), flush=True)
    found = lcr.decide(model, few)
    same = all(
        (int(found.mutations[i]), bool(found.suspicious[i])) == _one_at_a_time(lcr, model, each[None], i)
        for i, each in enumerate(few)
    )
    text = (
        f"LeNet, {len(x)} MNIST test images in one batch, 60,000 training images to fit, {torch.get_num_threads()} "
        f"thread(s). The batched sequential test is {ratio:.1f} times as fast as the loop; verdicts and counts "
        f"are {'the same' if same else 'NOT the same'}. The paper's milliseconds are of one image at a time, its loop "
        "at 26.2 mutations."
    )
    table = Table(
        "Cost",
        ["detector", "seconds to fit", "ms an image", "the paper's ms", "peak GiB of the process so far"],
        rows,
    )
    info = run_info(0, given.run, started, finished=datetime.now(UTC), command=COMMAND)
    print(write_page("detectors", "Cost of detectors", text, [table], info, "MNIST"))


def _timed(work: Callable[[], object], repeats: int = 3) -> float:
    """The shortest of a few runs, in seconds."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


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


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
