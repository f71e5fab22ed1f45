"""What a GPU does: training steps in every precision, AutoAttack, Neural Cleanse and diffusion purification.

``python -m benchmarks.gpu`` measures on the GPU of the machine and keeps the rows for ``python -m
benchmarks.performance``, which writes them into its page; ``--device cpu --small`` tries it out anywhere. It needs no
data: networks have their first weights, and every work is made as large as it can be, whatever they would decide.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.bench import kept
from benchmarks.training import net, precision_steps
from experiments.command import show
from experiments.cost import in_turn, seconds
from experiments.page import prose
from lightning_adv.asking import predicted
from lightning_adv.attacks import AutoAttack
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.models import compile_classifier, create_model
from lightning_adv.results.result import Cell

__all__ = ["COLUMNS", "GPU_ROWS", "NOTE", "Scale", "gpu_rows"]

COLUMNS = ["device", "work", "how", "s", "images or classes a second", "times the first"]
GPU_ROWS = "performance-gpu"
"""Name under which the rows are kept."""

NOTE = prose(__file__)


@dataclass(frozen=True)
class Scale:
    """How much work there is; the defaults are those of the page.

    Args:
        width, batch: of the trained network and its steps.
        attacked, attacked_width: images and network of AutoAttack.
        classes, steps: of Neural Cleanse.
        purified, channels: images and network of the purification.
        rounds: that medians are taken over, after one that warms up.
    """

    width: int = 64
    batch: int = 128
    attacked: int = 1000
    attacked_width: int = 16
    classes: int = 43
    steps: int = 100
    purified: int = 512
    channels: tuple[int, ...] = (64, 128, 256, 256)
    rounds: int = 5


SMALL = Scale(2, 4, 2, 2, 3, 2, 2, (8, 8), 1)


def gpu_rows(device: str = "cuda", scale: Scale = Scale()) -> list[list[Cell]]:
    """Rows of ``COLUMNS``; one that says "not measured" where there is no such device.

    Args:
        device: "cuda", or "cpu" to try it out.
        scale: of the work.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return [["GPU", "any", "not measured", None, None, None]]
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    groups = {
        "PGD-10 training step": _training(device, scale),
        f"AutoAttack, {scale.attacked} images": _autoattack(device, scale),
        f"Neural Cleanse, {scale.classes} classes": _neural_cleanse(device, scale),
        f"diffusion purification, {scale.purified} images": _purification(device, scale),
    }
    rows: list[list[Cell]] = []
    for work, (count, ways) in groups.items():
        first = None
        for how, run in ways.items():
            took = _median(run, device, scale.rounds if work.startswith("PGD") else 1)
            first = first or took
            rows.append([name, work, how, took, count / took, first / took])
            show(rows[-1])
        if not ways:
            rows.append([name, work, "not measured: diffusers is missing", None, None, None])
    return rows


Ways = tuple[int, dict[str, Callable[[], object]]]
"""How many images or classes there are, and the ways to go through them."""


def _training(device: str, scale: Scale) -> Ways:
    return scale.batch, dict(precision_steps(device, scale.width, scale.batch, graphs=device == "cuda"))


def _autoattack(device: str, scale: Scale) -> Ways:
    model = net(scale.attacked_width).to(device).eval()
    x = torch.rand(scale.attacked, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        y = predicted(model(x))
    fast = compile_classifier(net(scale.attacked_width).to(device, memory_format=torch.channels_last).eval())
    attack = AutoAttack(1e-6)  # breaks none

    def over(attacked: nn.Module) -> Callable[[], object]:
        return lambda: [attack.run(attacked, *part) for part in zip(x.split(500), y.split(500), strict=True)]

    return scale.attacked, {"float32": over(model), "float32, channels last, compiled": over(fast)}


def _neural_cleanse(device: str, scale: Scale) -> Ways:
    torch.manual_seed(0)
    model = create_model("convnet12", num_classes=scale.classes, in_channels=3, image_size=(32, 32)).to(device).eval()
    x = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    budget = {"steps": scale.steps, "images_per_step": 32, "early_stop_patience": scale.steps}
    ways = {"class after class": {"classes_at_once": 1}, "all at once": {}, "all at once, bf16": {"bf16": True}}
    return scale.classes, {
        how: lambda options=options: NeuralCleanse(**budget, **options)(model, x) for how, options in ways.items()
    }


def _purification(device: str, scale: Scale) -> Ways:
    if importlib.util.find_spec("diffusers") is None:
        return scale.purified, {}
    from lightning_adv.modules import DiffusionModule
    from lightning_adv.purifiers import Diffusion

    torch.manual_seed(0)
    module = DiffusionModule(channels=scale.channels, in_channels=3, image_size=(32, 32))
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        purifier = Diffusion(folder, noise_level=0.1, steps=10, chunk=256).to(device)
    x = torch.rand(scale.purified, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)

    def purify(half: bool) -> object:
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            return purifier(x)

    return scale.purified, {"float32": lambda: purify(False), "bf16": lambda: purify(True)}


def _median(run: Callable[[], object], device: str, rounds: int) -> float:
    """Wall seconds, after one run that warms up."""

    def finished() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    return statistics.median(in_turn({"": lambda: seconds(finished, time.perf_counter)}, rounds, warm_up=1)[""])


def main() -> None:
    """Measure, print and keep."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument("--small", action="store_true", help="a trial that is kept nowhere")
    given = arguments.parse_args()
    scale = SMALL if given.small else Scale()
    if not given.small and given.device == "cuda" and torch.cuda.is_available():
        kept(fresh=True).figures(GPU_ROWS, gpu_rows)
    else:
        print(*gpu_rows(given.device, scale), sep="\n")


if __name__ == "__main__":
    main()
