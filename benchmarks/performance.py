"""What a training step, an evaluation and a start cost beside their floors, and how they grow: paired runs, medians.

``python -m benchmarks.performance --root data``: writes ``docs/results/performance.md``. Resumable: what an
interrupted run had measured is kept under ``runs/benchmarks`` (``--fresh`` measures it again). On a machine with a GPU
the table of :mod:`benchmarks.gpu` is measured too, else it says "not measured".
"""

import argparse
import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isqrt, log
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import evaluation_memory, gpu
from benchmarks.ranks import ATTACKED, BATCH, BATCHES, rank_seconds, ranks_rows
from benchmarks.subjects import KEPT, Subject, subject
from benchmarks.training import EPS, PACE, STEPS, Bare, Lightning, MadryTrainer, Step, bare_passes, net, precision_steps
from experiments.page import write_page
from lightning_adv.attacks import PGD, AutoAttack
from lightning_adv.data import MNIST, float_images
from lightning_adv.detectors import LocalIntrinsicDimensionality
from lightning_adv.files import replace_atomically
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.models import create_model
from lightning_adv.reports.run import run_info
from lightning_adv.results.result import Cell, Table

COMMAND = ["python", "-m", "benchmarks.performance", "--root", "data"]
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
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--fresh", action="store_true")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    started = datetime.now(UTC)

    def kept(name: str, make: Callable[[], list[list[Cell]]]) -> list[list[Cell]]:
        file = KEPT / f"performance-{name}.json"
        if given.fresh or not file.is_file():
            replace_atomically(file, json.dumps(make()))
            print("measured", name, flush=True)
        return json.loads(file.read_text())

    tables = [
        Table(
            "A training step",
            ["loop", "ms a step", "over the hand-written loop", "over the floor"],
            kept("step", lambda: _steps(given.root, given.rounds)),
            note="PGD-10 on CIFAR-10, PreAct ResNet-18 of width 8, batches of 64, crop and flip, SGD. *Lightning*: "
            "`Trainer.fit` of a `ClassifierModule` with its metrics and logging. *Hand-written*: a loop of torch alone "
            "on the same batches. *Floor*: 10 forwards and backwards to the image, one forward and backward to the "
            "weights and the optimiser's step on images that lie there. *ART*: `AdversarialTrainerMadryPGD.fit` of as "
            "many images without augmentation, its attack in its batches of 32. CPU seconds; each round runs all, "
            "ratios are medians over rounds. Asked: Lightning within 1.05 of the loop, that within 1.10 of the floor.",
        ),
        Table(
            "Precision and layout",
            ["setting", "images a second", "times eager float32"],
            kept("precision", lambda: _precision(given.rounds)),
            note="The same step at width 16, batches of 128. Asked on a CPU with bf16 instructions: 2.5 times.",
        ),
        Table("On a GPU", gpu.COLUMNS, kept(gpu.GPU_ROWS, gpu.gpu_rows), note=gpu.NOTE),
        Table(
            "Two ranks on two cores",
            ["work", "s, 1 rank of 2 threads", "s, 2 ranks of 1 thread", "speed of 2 ranks over 1"],
            kept("ranks", lambda: ranks_rows(given.root, given.rounds)),
            note=f"Wall seconds without the start, gloo. Training: {BATCHES} steps on {BATCH} images over all ranks, "
            f"otherwise as above. AutoAttack: standard, {ATTACKED} images of MNIST in batches of 16 by "
            "`AttackEvaluation`, whose ranks take from each other what is left; two threads gain little on batches so "
            "small, which flatters the ranks. Asked: at least 0.9.",
        ),
        Table("Start-up", ["command", "CPU seconds", "MiB at its peak"], kept("start", lambda: _starts(given.rounds))),
        Table(
            "Memory of an evaluation",
            evaluation_memory.COLUMNS,
            kept("memory", evaluation_memory.memory_rows),
            note=evaluation_memory.NOTE,
        ),
        Table(
            "Growth",
            ["what", "with", "sizes", "seconds", "slope", "expected"],
            kept("growth", lambda: _growth(given.root)) + kept("growth-ranks", lambda: _growth_over_ranks(given.root)),
            note="AutoAttack in batches of 50. CPU seconds; slope of their log over that of the size; 1 is linear. "
            "Asked: within .1 of the expected. Ranks: one thread each, wall seconds; two take half the time.",
        ),
    ]
    text = (
        f"{torch.get_num_threads()} thread(s). Beside the peers: [attacks](attacks.md), [Neural Cleanse]"
        "(neural_cleanse.md), [detectors](detectors.md), [purifiers](purifiers.md). CPU seconds are those of the "
        "process, so that other work on the machine counts less. Tables that an interrupted run of the command had "
        "measured were not measured again (`--fresh` does); the times below are those of the last run."
    )
    info = run_info(0, str(KEPT), started, finished=datetime.now(UTC), command=COMMAND)
    print(write_page("performance", "Speed and scale", text, tables, info, "CIFAR-10 and MNIST"))


def _steps(root: str, rounds: int) -> list[list[Cell]]:
    loops: dict[str, Step] = {
        "Lightning": Lightning(root),
        "hand-written": Bare(root),
        "floor": bare_passes(width=8, batch=64, steps=10),
        f"ART {importlib.metadata.version('adversarial-robustness-toolbox')}": MadryTrainer(root),
    }
    seconds = _paired(loops, rounds)
    rows: list[list[Cell]] = []
    for name, times in seconds.items():
        over = [
            statistics.median(a / b for a, b in zip(times, seconds[base], strict=True))
            for base in ("hand-written", "floor")
        ]
        rows.append([name, 1000 * statistics.median(times), *over])
    return rows


def _precision(rounds: int) -> list[list[Cell]]:
    seconds = {name: statistics.median(times) for name, times in _paired(precision_steps("cpu"), rounds).items()}
    return [[setting, 128 / each, seconds["float32"] / each] for setting, each in seconds.items()]


def _paired(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step; all run in each round, so that a slow moment meets all. The first is dropped."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            took = step()
            if number:
                seconds[name].append(took)
                print(name, f"{took:.4f}", flush=True)
    return seconds


def _starts(rounds: int) -> list[list[Cell]]:
    measure = (
        "import resource, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], stdout=-3, check=True); "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(u.ru_utime + u.ru_stime, u.ru_maxrss / 1024)"
    )
    rows: list[list[Cell]] = []
    for name, arguments in STARTS.items():
        figures = [_figures([sys.executable, "-c", measure, *arguments]) for _ in range(rounds + 1)][1:]
        rows.append([name, *(statistics.median(column) for column in zip(*figures, strict=True))])
    return rows


def _figures(command: Sequence[str]) -> list[float]:
    root = Path(__file__).parent.parent
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    return [float(word) for word in said.split()]


def _growth(root: str) -> list[list[Cell]]:
    on = subject("MNIST", root, 200)
    images = MNIST(root=root, val_size=0)
    images.setup()
    train = images.datasets["train"]
    x, y = float_images(train.images[:32_000]), train.labels[:32_000]
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
        seconds = [_least(prepare(size), 1 if name == "AutoAttack" else 3) for size in sizes]
        rows.append(_growth_row(name, axis, sizes, seconds, 1))
    return rows


def _growth_over_ranks(root: str) -> list[list[Cell]]:
    seconds = [statistics.median(rank_seconds("training", ranks, root, 1) for _ in range(3)) for ranks in (1, 2)]
    return [_growth_row("PGD training", "ranks", (1, 2), seconds, -1)]


def _growth_row(name: str, axis: str, sizes: Sequence[int], seconds: Sequence[float], expected: int) -> list[Cell]:
    listed = ", ".join(f"{each:.3g}" for each in seconds)
    row = [name, axis, ", ".join(map(str, sizes)), listed, _slope(sizes, seconds), expected]
    print(*row, flush=True)
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
    detector = LocalIntrinsicDimensionality(reference_samples=None).fit(model, loader)
    return lambda: detector.score(model, x[:50])


def _least(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the quickest of a few runs."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    across, up = [log(size) for size in sizes], [log(each) for each in seconds]
    middle, height = statistics.mean(across), statistics.mean(up)
    rise = sum((a - middle) * (b - height) for a, b in zip(across, up, strict=True))
    return rise / sum((a - middle) ** 2 for a in across)


if __name__ == "__main__":
    main()
