"""Attacks beside torchattacks, foolbox, ART and the AutoAttack package: strength, size, passes and time in one run.

``python -m benchmarks.attacks --root data`` (extra ``bench``); writes ``docs/results/attacks.md``.
"""

import argparse
import contextlib
import copy
import importlib.metadata
import io
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.claims import claims
from benchmarks.subjects import KEPT, Counted, Subject, subject
from experiments.page import write_page
from lightning_adv.attacks import (
    APGD,
    FAB,
    FGSM,
    JSMA,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    Square,
    Targeted,
    perturbation_norms,
)
from lightning_adv.files import replace_atomically
from lightning_adv.models import compile_classifier
from lightning_adv.reports.run import run_info
from lightning_adv.results.result import Cell, Table

LIBRARIES = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "ART": "adversarial-robustness-toolbox",
    "AutoAttack package": "pyautoattack",
}
COLUMNS = [
    "attack",
    "library",
    "images",
    "still correct",
    "size",
    "our size over theirs",
    "forwards",
    "backwards",
    "CPU seconds",
    "time ratio",
]
OURS, FLOOR, COMPILED = "lightning_adv", "counted floor", "lightning_adv, compiled"

COMMAND = ["python", "-m", "benchmarks.attacks"]

Run = Callable[[Counted, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One attack, ours and the peers' at equal settings.

    Args:
        norm: of the size that is compared: Linf, L2, L0, or "median Linf".
        ours: our attack.
        peers: library to its run.
        images: how many of the subject's images; None for all.
        repeats: runs of each library, in turn; the median time counts.
    """

    norm: str
    ours: Attack
    peers: dict[str, Run]
    images: int | None = None
    repeats: int = 1


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--samples", type=int, default=200)
    arguments.add_argument("--fresh", action="store_true", help="measure again what an interrupted run had measured")
    given = arguments.parse_args()
    started = datetime.now(UTC)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    tables = []
    for name in ("MNIST", "CIFAR10"):
        on = subject(name, given.root, given.samples)
        # The net for CIFAR-10 costs sixteen times as much a pass: the slowest peers get fewer images there.
        few = (50, 100, 100) if name == "MNIST" else (16, 8, 32)
        cases = _suite(on.eps, on.x[0].numel(), few)
        tables.append(Table(name, COLUMNS, _measure(on, cases, given.fresh), percent=("still correct",)))
    versions = ", ".join(f"{name} {importlib.metadata.version(package)}" for name, package in LIBRARIES.items())
    text = (
        f"Equal settings on the same model and images, {torch.get_num_threads()} thread(s), float32. Peers: "
        f"{versions}. The models are small nets trained here with FGSM-RS (MNIST: a two-layer "
        "convolutional net; CIFAR-10: PreAct ResNet-18 of width 8); all images are classified correctly without an "
        "attack. *Still correct*: share of images that stay correct. *Size*: mean perturbation of the successes (Linf, "
        "L2, or number of changed values for JSMA; for FAB the median); *our size over theirs*: on the images that "
        "both broke. *Forwards*, *backwards*: images per attacked image. *CPU seconds*: of the process, on one thread, "
        "so that other work on the machine counts less. *Time ratio*: their seconds over ours; above 1 we are faster. "
        "*Counted floor*: the same forwards and backwards with nothing between them. *Compiled*: the classifier "
        "through `compile_classifier`, after a warm-up. The libraries of one attack were run in turn; attacks that an "
        "interrupted run of the command had measured were not measured again (`--fresh` does)."
    )
    tables = [claims(tables), *tables]
    info = run_info(0, "runs/benchmarks", started, finished=datetime.now(UTC), command=COMMAND)
    print(write_page("attacks", "Attacks beside their peers", text, tables, info, "MNIST and CIFAR-10 test images"))


def _measure(on: Subject, cases: dict[str, Case], fresh: bool) -> list[list[Cell]]:
    """Rows of all cases, each case in one go; those of an interrupted run are kept beside the models."""
    rows: list[list[Cell]] = []
    for name, case in cases.items():
        kept = KEPT / f"{on.name}-{name.replace(' ', '_')}-{len(on.x)}.json"
        if fresh or not kept.is_file():
            replace_atomically(kept, json.dumps(_beside(on, name, case)))
        rows += json.loads(kept.read_text())
    return rows


def _beside(on: Subject, name: str, case: Case) -> list[list[Cell]]:
    x, y = on.x[: case.images], on.y[: case.images]
    runs = {OURS: (on.model, _ours(case.ours))} | {peer: (on.model, run) for peer, run in case.peers.items()}
    if COMPILED in runs:
        runs[COMPILED] = (_compiled(on.model, x, y), _ours(case.ours))
    seconds: dict[str, list[float]] = {library: [] for library in runs}
    figures, found = {}, {}
    for _ in range(case.repeats):  # in turn, so that a slow moment of the machine meets every library
        for library, (model, run) in runs.items():
            found[library], passes, took = _run(model, run, x, y)
            figures[library] = passes
            seconds[library].append(took)
    with torch.no_grad():
        correct = {library: on.model(images).argmax(dim=1) == y for library, images in found.items()}
    median = {library: statistics.median(each) for library, each in seconds.items()}
    rows: list[list[Cell]] = []
    for library in runs:
        ratio = None if library == OURS else median[library] / median[OURS]
        broken = ~correct[library]
        size = _size(x[broken], found[library][broken], case.norm)
        both = broken & ~correct[OURS]  # a library that fails on the hard images has the smaller mean
        theirs, ours = (_size(x[both], found[each][both], case.norm) for each in (library, OURS))
        beside = None if library == OURS or not theirs else ours / theirs
        share = correct[library].float().mean().item()
        rows.append([name, library, len(x), share, size, beside, *figures[library], median[library], ratio])
        print(on.name, *(f"{cell:.4g}" if isinstance(cell, float) else cell for cell in rows[-1]), flush=True)
    return rows


def _run(model: nn.Module, run: Run, x: Tensor, y: Tensor) -> tuple[Tensor, list[float], float]:
    """Adversarial images, forwards and backwards an image, CPU seconds."""
    counted = Counted(model)
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        x_adv = run(counted, x.clone(), y.clone()).detach()
    took = time.process_time() - began
    return x_adv, [counted.forwards / len(x), counted.backwards / len(x)], took


def _compiled(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    """The compiled classifier, warmed up on the kinds of passes and batches of an attack."""
    compiled = compile_classifier(copy.deepcopy(model))  # which finds out by itself that the batch size changes
    # With labels that no tiny budget breaks, so that every attack has its turn.
    for count in (len(x), len(x) - 3, 9, 1):
        for attack in (APGD(1e-3, steps=2), FAB(1e-3, steps=2, targets=2), Square(1e-3, queries=3)):
            attack.run(compiled, x[:count], y[:count])
    return compiled


def _suite(eps: float, values: int, few: tuple[int, int, int]) -> dict[str, Case]:
    """The cases for images of so many values; ``few``: images of C&W, JSMA, and FAB and AutoAttack."""
    # An even number of values, so that all round alike: a tenth on MNIST, fifteen pairs on CIFAR-10.
    gamma = 2 * min(values // 20, 15 if values > 1000 else 39) / values
    step, l2 = eps / 4, 10 * eps
    pgd, pgd_l2 = PGD(eps, step, steps=40), PGD(l2, l2 / 10, steps=40, norm="L2")
    return {
        "FGSM": Case(
            "Linf",
            FGSM(eps),
            {"torchattacks": peers.torchattacks_fgsm(eps), "foolbox": peers.foolbox_fgsm(eps)},
            None,
            3,
        ),
        "PGD-40": Case(
            "Linf",
            pgd,
            {
                FLOOR: peers.bare_passes(40),
                "torchattacks": peers.torchattacks_pgd(eps, step, 40),
                "foolbox": peers.foolbox_pgd(eps, step, 40),
                "ART": peers.art_pgd(eps, step, 40),
            },
            None,
            5,
        ),
        "PGD-40 L2": Case(
            "L2",
            pgd_l2,
            {
                FLOOR: peers.bare_passes(40),
                "torchattacks": peers.torchattacks_pgd_l2(l2, l2 / 10, 40),
                "foolbox": peers.foolbox_pgd_l2(l2, l2 / 10, 40),
            },
            None,
            5,
        ),
        "DeepFool L2": Case(
            "L2",
            DeepFool(steps=50, candidates=10, norm="L2"),
            {"foolbox": peers.foolbox_deepfool(50), "torchattacks": peers.torchattacks_deepfool(50)},
        ),
        "C&W L2": Case(
            "L2",
            CarliniWagner(binary_search_steps=5, steps=100, lr=0.05, initial_const=1.0),
            {"foolbox": peers.foolbox_cw(5, 100, 0.05, 1.0), "ART": peers.art_cw(5, 100, 0.05, 1.0)},
            few[0],
        ),
        "JSMA": Case(
            "L0",
            Targeted(JSMA(theta=1.0, gamma=gamma), "next"),
            {"torchattacks": peers.torchattacks_jsma(1.0, gamma)},
            few[1],
        ),
        "FAB-T": Case("median Linf", FAB(steps=50, targets=9), {"AutoAttack package": peers.package_fab(50)}, few[2]),
        "APGD-CE": Case("Linf", APGD(eps), {"AutoAttack package": peers.package(eps, ["apgd-ce"])}),
        "Square 1000": Case(
            "Linf",
            Square(eps, queries=1000),
            {"AutoAttack package": peers.package(eps, ["square"], 1000)},
        ),
        "AutoAttack standard": Case(
            "Linf",
            AutoAttack(eps),
            {"AutoAttack package": peers.package(eps, None), COMPILED: _ours(AutoAttack(eps))},
            few[2],
        ),
    }


def _ours(attack: Attack) -> Run:
    return lambda model, x, y: attack.run(model, x, y).images


def _size(clean: Tensor, adversarial: Tensor, norm: str) -> float | None:
    if not len(clean):
        return None
    if norm == "L0":
        return ((adversarial - clean).abs() > 1e-6).flatten(1).sum(dim=1).float().mean().item()
    sizes = perturbation_norms(clean, adversarial)[norm.removeprefix("median ")]
    return (sizes.median() if norm.startswith("median") else sizes.mean()).item()


if __name__ == "__main__":
    main()
