"""What a training step, an evaluation and a start cost beside their floors, and how they grow: paired runs, medians.

``python -m benchmarks.performance --root data``: writes ``docs/results/performance.md``. Resumable: what an
interrupted run had measured is kept under ``runs/benchmarks`` (``--fresh`` measures it again). The table of GPUs is
what :mod:`benchmarks.gpu` measured.
"""

import importlib.metadata
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from math import isqrt, log
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import evaluation_memory, gpu
from benchmarks.bench import bench, kept
from benchmarks.ranks import ATTACKED, BATCH, BATCHES, rank_seconds, ranks_rows
from benchmarks.subjects import Subject
from benchmarks.training import (
    EPS,
    PACE,
    PRECISIONS,
    STEPS,
    Bare,
    Lightning,
    MadryTrainer,
    Step,
    bare_passes,
    net,
    precision_step,
)
from experiments.command import arguments, command, show
from experiments.cost import in_turn, quickest, ratio
from experiments.cost import seconds as run_seconds
from experiments.networks import images_of
from experiments.page import prose
from lightning_adv.attacks import PGD, AutoAttack
from lightning_adv.data import MNIST
from lightning_adv.detectors import LocalIntrinsicDimensionality
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.models import create_model
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

FAST = "bf16, channels last, compiled, width 16"
STARTS = {
    "python -c 'import torch'": ["-c", "import torch"],
    "python -c 'import pytorch_lightning'": ["-c", "import pytorch_lightning"],
    "python -c 'import lightning_adv'": ["-c", "import lightning_adv"],
    "python -c 'import lightning_adv.callbacks'": ["-c", "import lightning_adv.callbacks"],
    "python train.py --help": ["train.py", "--help"],
    "python train.py fit --help": ["train.py", "fit", "--help"],
}


def main() -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    page, root, rounds = bench("performance"), given.root, given.rounds

    def rows(name: str, make: Callable[[], list[list[Cell]]]) -> list[list[Cell]]:
        return kept(given.fresh).figures(f"performance-{name}", make)

    def table(title: str, columns: list[str], rows: list[list[Cell]]) -> Table:
        facts = {"batches": BATCHES, "batch": BATCH, "attacked": ATTACKED}
        return Table(title, columns, rows, note=prose(__file__, title, **facts))

    over, ranks = ["over the hand-written loop", "over the floor"], ["s, 1 rank of 2 threads", "s, 2 ranks of 1 thread"]
    tables = [
        table("A training step", ["loop", "ms a step", *over], rows("step", partial(_steps, root, rounds))),
        table(
            "Precision and layout",
            ["setting", "images a second", "times eager float32"],
            rows("precision", partial(_precision, rounds)),
        ),
        Table("On a GPU", gpu.COLUMNS, gpu.recorded_rows(), note=gpu.NOTE),
        table(
            "Two ranks on two cores",
            ["work", *ranks, "speed of 2 ranks over 1"],
            rows("ranks", partial(ranks_rows, root, rounds)),
        ),
        Table("Start-up", ["command", "CPU seconds", "MiB at its peak"], rows("start", partial(_starts, rounds))),
        Table(
            "Memory of an evaluation",
            evaluation_memory.COLUMNS,
            rows("memory", evaluation_memory.memory_rows),
            note=evaluation_memory.NOTE,
        ),
        table(
            "Growth",
            ["what", "with", "sizes", "seconds", "slope", "expected"],
            rows("growth", partial(_growth, root)) + rows("growth-ranks", partial(_growth_over_ranks, root)),
        ),
    ]
    page.write(prose(__file__, threads=torch.get_num_threads()), tables, "CIFAR-10 and MNIST")


def _steps(root: str, rounds: int) -> list[list[Cell]]:
    loops: dict[str, Step] = {
        "Lightning": Lightning(root),
        "hand-written": Bare(root),
        "floor": bare_passes(width=8, batch=64, steps=10),
        f"ART {importlib.metadata.version('adversarial-robustness-toolbox')}": MadryTrainer(root),
    }
    seconds = in_turn(loops, rounds, warm_up=1)
    fast: dict[str, Step] = {
        f"Lightning, {FAST}": Lightning(root, fast=True),
        f"hand-written, {FAST}": Bare(root, fast=True),
    }
    taken = in_turn(fast, rounds, warm_up=1)
    rows: list[list[Cell]] = []
    for name, times in seconds.items():
        over = [ratio(times, seconds[base]) for base in ("hand-written", "floor")]
        rows.append([name, 1000 * statistics.median(times), *over])
    (name, ours), (other, theirs) = taken.items()
    rows.append([name, 1000 * statistics.median(ours), ratio(ours, theirs), None])
    rows.append([other, 1000 * statistics.median(theirs), 1.0, None])
    return rows


def _precision(rounds: int) -> list[list[Cell]]:
    steps = {
        name: partial(run_seconds, precision_step("cpu", 16, 128, **given))
        for name, given in PRECISIONS.items()
        if given["compiled"] != "reduce-overhead"  # CUDA graphs
    }
    taken = in_turn(steps, rounds, warm_up=1)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    return [[setting, 128 / each, seconds["float32"] / each] for setting, each in seconds.items()]


def _starts(rounds: int) -> list[list[Cell]]:
    measure = (
        "import resource, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], stdout=-3, check=True); "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(u.ru_utime + u.ru_stime, u.ru_maxrss / 1024)"
    )
    rows: list[list[Cell]] = []
    for name, line in STARTS.items():
        figures = [_figures([sys.executable, "-c", measure, *line]) for _ in range(rounds + 1)][1:]
        rows.append([name, *(statistics.median(column) for column in zip(*figures, strict=True))])
    return rows


def _figures(command: Sequence[str]) -> list[float]:
    root = Path(__file__).parent.parent
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    return [float(word) for word in said.split()]


def _growth(root: str) -> list[list[Cell]]:
    on = Subject("MNIST", root, 200)
    images = MNIST(root=root, val_size=0)
    images.setup()
    x, y = images_of(images, "train", 0, 32_000)
    attack = AutoAttack(1e-3)  # breaks none of these images: the work is the same for each, and the most there is
    cases: list[tuple[str, str, Sequence[int], Callable[[int], Callable[[], object]]]] = [
        ("AutoAttack", "images", (50, 100, 200), lambda n: lambda: _attacked(attack, on, n)),
        ("Neural Cleanse", "classes", (5, 10, 20, 40), lambda k: _cleanse(k, x[:320])),
        ("Neural Cleanse", "steps", (25, 50, 100), lambda steps: _cleanse(10, x[:320], steps)),
        ("PGD-10", "pixels", (1024, 4096, 16_384), _attacked_pixels),
        ("LID", "reference images", (8000, 16_000, 32_000), lambda n: _lid(on.model, x[:n], y[:n])),
    ]
    rows: list[list[Cell]] = []
    for name, axis, sizes, prepare in cases:
        seconds = [quickest(prepare(size), 1 if name == "AutoAttack" else 3) for size in sizes]
        rows.append(_growth_row(name, axis, sizes, seconds, 1))
    return rows


def _growth_over_ranks(root: str) -> list[list[Cell]]:
    seconds = [statistics.median(rank_seconds("training", ranks, root, 1) for _ in range(3)) for ranks in (1, 2)]
    return [_growth_row("PGD training", "ranks", (1, 2), seconds, -1)]


def _growth_row(name: str, axis: str, sizes: Sequence[int], seconds: Sequence[float], expected: int) -> list[Cell]:
    listed = ", ".join(f"{each:.3g}" for each in seconds)
    row = [name, axis, ", ".join(map(str, sizes)), listed, _slope(sizes, seconds), expected]
    show(row)
    return row


def _attacked(attack: AutoAttack, on: Subject, count: int) -> None:
    for x, y in zip(on.x[:count].split(50), on.y[:count].split(50), strict=True):
        attack.run(on.model, x, y)


def _attacked_pixels(pixels: int) -> Callable[[], object]:
    side = isqrt(pixels)
    model = net(8).eval()  # averages over what is left of the image, so that it takes any size
    x = torch.rand(8, 3, side, side, generator=torch.Generator().manual_seed(0))
    return lambda: PGD(EPS, PACE, STEPS)(model, x, torch.arange(8))


def _cleanse(classes: int, x: Tensor, steps: int = 50) -> Callable[[], object]:
    torch.manual_seed(0)
    model = create_model("mnist_cnn", num_classes=classes, in_channels=1, image_size=(28, 28)).eval()
    return lambda: NeuralCleanse(steps=steps, images_per_step=64, early_stop_patience=steps)(model, x)


def _lid(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    loader = list(zip(x.split(1000), y.split(1000), strict=True))
    detector = LocalIntrinsicDimensionality(reference_samples=None, minibatch=None).fit(model, loader)
    return lambda: detector.score(model, x[:50])


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    return statistics.linear_regression([log(size) for size in sizes], [log(each) for each in seconds]).slope


if __name__ == "__main__":
    command(main)
