"""Peak memory of the exact gradient through a diffusion purifier, over its steps; each figure in a process of its own.

``python -m benchmarks.purifier_memory``: writes ``docs/results/purifier_memory.md``. The network is not trained.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime

import torch

from experiments.page import write_page
from lightning_adv.modules import DiffusionModule
from lightning_adv.purifiers import Diffusion, denoising
from lightning_adv.reports.run import run_info
from lightning_adv.results.result import Cell, Table

COMMAND = ["python", "-m", "benchmarks.purifier_memory"]
STEPS = (1, 2, 4, 8, 16)
IMAGES = 32
MIB = 1024


def main() -> None:
    """Measure and write; with ``--one`` measure one figure and print it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--one", nargs=3, metavar=("FOLDER", "STEPS", "KEEP"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        folder, steps, keep = given.one
        print(json.dumps(_measured(folder, int(steps), keep == "keep")))
        return
    started = datetime.now(UTC)
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        module = DiffusionModule(channels=(32, 64), in_channels=3, image_size=(32, 32))
        module.save_pretrained(folder)
        for steps in STEPS:
            again, kept = (_in_a_process(folder, steps, how) for how in ("again", "keep"))
            rows.append([str(steps), *again, *kept])
            print(*rows[-1], flush=True)
    columns = ["steps", "MiB, computed again", "s, computed again", "MiB, all kept", "s, all kept"]
    one, last = rows[0], rows[-1]
    text = (
        f"Gradient of the purified images' sum, {IMAGES} images of 32 x 32 pixels and 3 channels, a UNet of 32 and 64 "
        "channels, DDIM, one thread. Figures are the highest resident memory of a process above that before the "
        "gradient. The purifier computes each step again in its backward pass; beside it the same gradient with all "
        f"steps kept. From {STEPS[0]} to {STEPS[-1]} steps the first grows {last[1] / one[1]:.2f} times, the second "
        f"{last[3] / one[3]:.2f} times."
    )
    info = run_info(0, ".", started, finished=datetime.now(UTC), command=COMMAND)
    table = Table("Peak memory of the gradient", columns, rows)
    print(write_page("purifier_memory", "Memory of adaptive attacks", text, [table], info, "none: random images"))


def _in_a_process(folder: str, steps: int, how: str) -> tuple[float, float]:
    line = [sys.executable, "-m", "benchmarks.purifier_memory", "--one", folder, str(steps), how]
    # Freed blocks go back to the system, so that holes in the heap are not counted.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def _measured(folder: str, steps: int, keep: bool) -> tuple[float, float]:
    """MiB above the memory before the gradient, and seconds."""
    torch.set_num_threads(1)
    purifier = Diffusion(folder, noise_level=0.2, steps=steps, scheduler="DDIMScheduler", chunk=IMAGES)
    x = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    purifier(x)  # what the libraries allocate once
    if keep:
        denoising.recomputed = lambda step, *tensors: step(*tensors)
    before, began = _peak(), time.perf_counter()
    purifier(x.requires_grad_()).sum().backward()
    return round((_peak() - before) / MIB, 1), round(time.perf_counter() - began, 2)


def _peak() -> int:
    """Highest resident memory so far, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
