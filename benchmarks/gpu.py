"""What a GPU does: training steps in every precision, AutoAttack, Neural Cleanse and diffusion purification.

``python -m benchmarks.gpu --minutes 8`` measures pieces, the most wanted first, until the time is over, and goes on
where the last call ended; what was measured on one kind of card is kept beside the pages and merged. ``--device cpu
--small`` tries it out anywhere and keeps nothing. It needs no data: networks have their first weights, and every work
is made as large as it can be, whatever they would decide. ``python -m benchmarks.performance`` writes the rows into its
page. Run ``python -m pytest tests/test_devices.py`` first: a card that computes wrongly has no speed.
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.bench import KEPT
from benchmarks.peers import package
from benchmarks.training import PRECISIONS, net, precision_step
from experiments.command import command, show
from experiments.cost import in_turn, seconds
from experiments.kept import Kept
from experiments.page import RESULTS, prose
from experiments.records import read_records, restore_records, write_records
from lightning_adv.asking import predicted
from lightning_adv.attacks import AutoAttack, SearchLow
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.models import compile_classifier, create_model
from lightning_adv.results.result import Cell

__all__ = ["COLUMNS", "NOTE", "Piece", "Scale", "gpu_rows", "pieces", "recorded_rows"]

COLUMNS = ["device", "work", "how", "s", "images or classes a second", "times the first"]

RUN, RECORDS = KEPT / "gpu", RESULTS / "performance_gpu.json"

NOTE = prose(__file__)


@dataclass(frozen=True)
class Scale:
    """How much work there is; the defaults are those of the page.

    Args:
        width, batch: of the trained network and its steps.
        attacked, part, backbone: images of AutoAttack, how many of them are a piece, and the network.
        queries: of Square; None for the standard 5,000.
        classes, steps: of Neural Cleanse.
        purified, channels: images and network of the purification.
        rounds: that medians are taken over, after one that warms up.
    """

    width: int = 64
    batch: int = 128
    attacked: int = 1000
    part: int = 125
    backbone: str = "wide_resnet28_10"
    queries: int | None = None
    classes: int = 43
    steps: int = 100
    purified: int = 512
    channels: tuple[int, ...] = (64, 128, 256, 256)
    rounds: int = 5


SMALL = Scale(2, 4, 2, 1, "lenet", 5, 3, 2, 2, (8, 8), 1)


@dataclass(frozen=True)
class Piece:
    """What is measured at once and kept.

    Args:
        work: row of the table.
        how: way to do it; the first of a work is what the others are held against.
        count: images or classes.
        make: for a device, what is timed; built only when it is measured.
        part: of a work that is cut in several.
        rounds: that the median is taken over.
        needs: module without which it cannot be measured.
    """

    work: str
    how: str
    count: int
    make: Callable[[str], Callable[[], object]]
    part: int = 0
    rounds: int = 1
    needs: str = "torch"

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.work} {self.how} {self.part}"


def pieces(scale: Scale = Scale()) -> Iterator[Piece]:
    """All pieces, the most wanted first; each takes minutes at most."""
    for how, given in PRECISIONS.items():
        step = partial(precision_step, width=scale.width, batch=scale.batch, **given)
        yield Piece("PGD-10 training step", how, scale.batch, step, rounds=scale.rounds)
    ways: dict[str, tuple[Callable[..., Callable[[], object]], str]] = {
        "the package": (_package, "pyautoattack"),
        "float32": (_autoattack, "torch"),
        "float32, channels last, compiled": (partial(_autoattack, fast=True), "torch"),
        "bf16, proven in float32": (partial(_autoattack, low=True), "torch"),
    }
    for part in range(scale.attacked // scale.part):  # a part of each way, so that a short time compares them too
        for how, (make, needs) in ways.items():
            work = f"AutoAttack, {scale.backbone}, {scale.attacked} images"
            yield Piece(work, how, scale.part, partial(make, scale=scale, part=part), part, needs=needs)
    budgets = {"class after class": {"classes_at_once": 1}, "all at once": {}, "all at once, bf16": {"bf16": True}}
    for how, options in budgets.items():
        make = partial(_neural_cleanse, scale=scale, options=options)
        yield Piece(f"Neural Cleanse, {scale.classes} classes", how, scale.classes, make)
    for how in ("float32", "bf16", "float32, with its exact gradient"):
        work = f"diffusion purification, {scale.purified} images"
        yield Piece(work, how, scale.purified, partial(_purification, scale=scale, how=how), needs="diffusers")


def gpu_rows(device: str, scale: Scale, kept: Kept, until: float = float("inf")) -> list[list[Cell]]:
    """Measure what is missing, piece by piece, until a time of the monotonic clock; the rows of what there is.

    Args:
        device: "cuda", or "cpu" to try it out.
        scale: of the work.
        kept: of this kind of card.
        until: no piece begins after it; what a piece of a work has cost before tells whether the next one would end.
    """
    longest: dict[tuple[str, str], float] = {}
    for piece in pieces(scale):
        if importlib.util.find_spec(piece.needs) is None or not _suits(piece, device):
            continue
        began, kind = time.monotonic(), (piece.work, piece.how)
        if kept.path(piece.name, "json").is_file() or began + longest.get(kind, 0.0) < until:
            kept.figures(piece.name, partial(_measured, piece, device), repr(scale))
            longest[kind] = time.monotonic() - began
    return _rows(device_name(device), scale, kept)


def recorded_rows() -> list[list[Cell]]:
    """The rows of every card that was measured; one that says "not measured" where none was."""
    _restore()
    cards = sorted(each.name for each in RUN.glob("*") if each.is_dir())
    rows = [row for card in cards for row in _rows(card, Scale(), Kept(RUN / card))]
    return rows or [["GPU", "any", "not measured", None, None, None]]


def device_name(device: str) -> str:
    """Kind of card."""
    return torch.cuda.get_device_name().replace("/", " ") if device == "cuda" else "CPU"


def _suits(piece: Piece, device: str) -> bool:
    return device == "cuda" or "CUDA graphs" not in piece.how


def _measured(piece: Piece, device: str) -> float:
    """Wall seconds, after a run that warms up where there are rounds."""
    run = piece.make(device)

    def finished() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    warm_up = int(piece.rounds > 1 or "compiled" in piece.how)
    return statistics.median(in_turn({"": lambda: seconds(finished, time.perf_counter)}, piece.rounds, warm_up)[""])


def _rows(card: str, scale: Scale, kept: Kept) -> list[list[Cell]]:
    """A row for each way of a work, of as many parts as were measured."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for piece in pieces(scale):
        measured = found.setdefault((piece.work, piece.how), [])
        path = kept.path(piece.name, "json")
        if path.is_file() and (record := json.loads(path.read_text()))["origin"]["setting"] == repr(scale):
            measured.append((piece.count, record["made"]))
    needed: dict[tuple[str, str], list[str]] = {}
    for piece in pieces(scale):
        needed.setdefault((piece.work, piece.how), []).append(piece.needs)
    rows: list[list[Cell]] = []
    first: dict[str, float] = {}
    for (work, how), parts in found.items():
        if not parts:
            missing = [each for each in needed[work, how] if importlib.util.find_spec(each) is None]
            why = f"not measured: {missing[0]} is missing" if missing else "not measured yet"
            rows.append([card, work, f"{how}: {why}", None, None, None])
            continue
        count, took = map(sum, zip(*parts, strict=True))
        first.setdefault(work, count / took)
        some = f" ({count} measured)" if len(parts) < len(needed[work, how]) else ""
        rows.append([card, work, how + some, took, count / took, count / took / first[work]])
    return rows


def _autoattack(device: str, scale: Scale, part: int, fast: bool = False, low: bool = False) -> Callable[[], object]:
    model, x, y = _attacked(device, scale, part)
    if fast:
        model = compile_classifier(model.to(memory_format=torch.channels_last))
    attack = AutoAttack(1e-6)  # breaks none
    if scale.queries is not None:
        attack.attacks["square"].queries = scale.queries
    searching = SearchLow(attack) if low else attack
    return lambda: searching.run(model, x, y)


def _package(device: str, scale: Scale, part: int) -> Callable[[], object]:
    model, x, y = _attacked(device, scale, part)
    run = package(1e-6, None, scale.queries)
    return lambda: run(model, x, y)


def _attacked(device: str, scale: Scale, part: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network, images of a part, and what it says of them."""
    torch.manual_seed(0)
    model = create_model(scale.backbone, num_classes=10, in_channels=3, image_size=(32, 32)).to(device).eval()
    x = torch.rand(scale.part, 3, 32, 32, generator=torch.Generator().manual_seed(part)).to(device)
    with torch.no_grad():
        return model, x, predicted(model(x))


def _neural_cleanse(device: str, scale: Scale, options: dict[str, int]) -> Callable[[], object]:
    torch.manual_seed(0)
    model = create_model("convnet12", num_classes=scale.classes, in_channels=3, image_size=(32, 32)).to(device).eval()
    x = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    budget = {"steps": scale.steps, "images_per_step": 32, "early_stop_patience": scale.steps}
    return lambda: NeuralCleanse(**budget, **options)(model, x)


def _purification(device: str, scale: Scale, how: str) -> Callable[[], object]:
    from lightning_adv.modules import DiffusionModule
    from lightning_adv.purifiers import Diffusion, PurifiedClassifier

    torch.manual_seed(0)
    module = DiffusionModule(channels=scale.channels, in_channels=3, image_size=(32, 32))
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        purifier = Diffusion(folder, noise_level=0.1, steps=10, chunk=256).to(device)
    x = torch.rand(scale.purified, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    purified = PurifiedClassifier(purifier, net(scale.width).to(device).eval())

    def purify() -> object:
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=how == "bf16"):
            return purifier(x)

    def differentiate() -> object:
        parts = (part.clone().requires_grad_(True) for part in x.split(128))
        return [torch.autograd.grad(purified(part).logsumexp(dim=1).sum(), part) for part in parts]

    return differentiate if "gradient" in how else purify


def _restore() -> None:
    cards = json.loads(RECORDS.read_text())["settings"] if RECORDS.is_file() else {}
    restore_records(RECORDS, dict.fromkeys(cards, repr(Scale())), RUN)


def main() -> None:
    """Measure, print and keep."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument("--minutes", type=float, default=float("inf"), help="begin no piece after so many")
    arguments.add_argument("--small", action="store_true", help="a trial that is kept nowhere")
    given = arguments.parse_args()
    until = time.monotonic() + 60 * given.minutes
    if given.device == "cuda" and not torch.cuda.is_available():
        arguments.error("there is no GPU on this machine: --device cpu --small tries the command out")
    if given.small:
        with tempfile.TemporaryDirectory() as folder:
            rows = gpu_rows(given.device, SMALL, Kept(Path(folder)), until)
    else:
        _restore()
        card = device_name(given.device)
        rows = gpu_rows(given.device, Scale(), Kept(RUN / card), until)
        cards = {each.name: repr(Scale()) for each in RUN.glob("*") if each.is_dir()}
        write_records(RECORDS, cards, read_records(RUN, "*/*.json"))
    for row in rows:
        show(row)


if __name__ == "__main__":
    command(main)
