"""Peak memory of the exact gradient through a diffusion purifier, over its steps; each figure in a process of its own.

``python -m benchmarks.purifier_memory``: writes ``docs/results/purifier_memory.md``. The network is not trained.
"""

import argparse
import json
import tempfile

import torch

from benchmarks.bench import Used, bench, in_a_process
from experiments.command import arguments, command, show
from experiments.page import prose
from lightning_adv.modules import DiffusionModule
from lightning_adv.purifiers import Diffusion, denoising
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

STEPS = (1, 2, 4, 8, 16)
IMAGES = 32


def main() -> None:
    """Measure and write; with ``--one`` measure one figure and print it."""
    parser = arguments(__doc__)
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "STEPS", "KEEP"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        folder, steps, keep = given.one
        print(json.dumps(_measured(folder, int(steps), keep == "keep")))
        return
    page = bench("purifier_memory")
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        module = DiffusionModule(channels=(32, 64), in_channels=3, image_size=(32, 32))
        module.save_pretrained(folder)
        for steps in STEPS:
            command = ("benchmarks.purifier_memory", "--one", folder, steps)
            rows.append([str(steps), *in_a_process(*command, "again"), *in_a_process(*command, "keep")])
            show(rows[-1])
    columns = ["steps", "MiB, computed again", "s, computed again", "MiB, all kept", "s, all kept"]
    (first, *_, last), again, keep = rows, 1, 3
    growth = {"again": last[again] / first[again], "keep": last[keep] / first[keep]}
    text = prose(__file__, images=IMAGES, first=STEPS[0], last=STEPS[-1], **growth)
    page.write(text, [Table("Peak memory of the gradient", columns, rows)], "none: random images")


def _measured(folder: str, steps: int, keep: bool) -> list[float]:
    """MiB above the memory before the gradient, and seconds."""
    torch.set_num_threads(1)
    purifier = Diffusion(folder, noise_level=0.2, steps=steps, scheduler="DDIMScheduler", chunk=IMAGES)
    x = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    purifier(x)  # what the libraries allocate once
    if keep:
        denoising.recomputed = lambda step, *tensors: step(*tensors)
    used = Used()
    purifier(x.requires_grad_()).sum().backward()
    return used()


if __name__ == "__main__":
    command(main)
