"""Attacks beside torchattacks, foolbox, ART and the AutoAttack package: strength, size, passes and time in one run.

``python -m benchmarks.attacks --root data`` (extra ``bench``); writes ``docs/results/attacks.md``.
"""

import argparse
import contextlib
import importlib.metadata
import io
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.subjects import Counted, Subject, subject
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
from lightning_adv.reports.results import Cell, Table
from lightning_adv.reports.run import run_info

LIBRARIES = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "ART": "adversarial-robustness-toolbox",
    "AutoAttack package": "pyautoattack",
}
COLUMNS = ["attack", "library", "still correct", "size", "forwards", "backwards", "seconds", "time ratio"]

COMMAND = ["python", "-m", "benchmarks.attacks"]

Run = Callable[[Counted, Tensor, Tensor], Tensor]


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--samples", type=int, default=200)
    arguments.add_argument("--repeats", type=int, default=3, help="runs of each fast attack; the median time counts")
    given = arguments.parse_args()
    started = datetime.now(UTC)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    tables = [_measure(subject(name, given.root, given.samples), given.repeats) for name in ("MNIST", "CIFAR10")]
    versions = ", ".join(f"{name} {importlib.metadata.version(package)}" for name, package in LIBRARIES.items())
    text = (
        f"Equal settings on the same model and images, {torch.get_num_threads()} thread(s), eager float32. Peers: "
        f"{versions}. The models are small convolutional nets trained here with FGSM-RS; all images are classified "
        "correctly without an attack. *Still correct*: share of images that stay correct. *Size*: mean perturbation of "
        "the successes (Linf, L2, or number of changed values for JSMA; for FAB the median). *Forwards*, *backwards*: "
        "per image. *Time ratio*: the peer's seconds over ours; above 1 we are faster."
    )
    info = run_info(0, "runs/benchmarks", started, finished=datetime.now(UTC), command=COMMAND)
    print(write_page("attacks", "Attacks beside their peers", text, tables, info, "MNIST and CIFAR-10 test images"))


def _measure(on: Subject, repeats: int) -> Table:
    rows: list[list[Cell]] = []
    for name, (norm, ours, theirs) in _suite(on.eps).items():
        once = repeats if name.startswith(("FGSM", "PGD")) else 1
        result = _timed(on, _ours(ours), once, norm)
        rows.append([name, "lightning_adv", *result, None])
        for library, make in theirs.items():
            peer = _timed(on, make, once, norm)
            rows.append([name, library, *peer, peer[-1] / result[-1]])
        for row in rows[-1 - len(theirs) :]:
            print(on.name, *(f"{c:.4g}" if isinstance(c, float) else c for c in row), flush=True)
    return Table(f"{on.name}, {len(on.x)} images", COLUMNS, rows, percent=("still correct",))


def _suite(eps: float) -> dict[str, tuple[str, Attack, dict[str, Run]]]:
    """Name to (norm of the size, our attack, the peers' at equal settings)."""
    step, l2 = eps / 4, 10 * eps
    return {
        "FGSM": ("Linf", FGSM(eps), {"torchattacks": peers.torchattacks_fgsm(eps), "foolbox": peers.foolbox_fgsm(eps)}),
        "PGD-40": (
            "Linf",
            PGD(eps, step, steps=40),
            {
                "torchattacks": peers.torchattacks_pgd(eps, step, 40),
                "foolbox": peers.foolbox_pgd(eps, step, 40),
                "ART": peers.art_pgd(eps, step, 40),
            },
        ),
        "PGD-40 L2": (
            "L2",
            PGD(l2, l2 / 10, steps=40, norm="L2"),
            {
                "torchattacks": peers.torchattacks_pgd_l2(l2, l2 / 10, 40),
                "foolbox": peers.foolbox_pgd_l2(l2, l2 / 10, 40),
            },
        ),
        "DeepFool L2": (
            "L2",
            DeepFool(steps=50, candidates=10, norm="L2"),
            {"foolbox": peers.foolbox_deepfool(50), "torchattacks": peers.torchattacks_deepfool(50)},
        ),
        "C&W L2": (
            "L2",
            CarliniWagner(binary_search_steps=5, steps=100, lr=0.01, initial_const=0.01),
            {"foolbox": peers.foolbox_cw(5, 100, 0.01, 0.01), "ART": peers.art_cw(5, 100, 0.01, 0.01)},
        ),
        "JSMA": (
            "L0",
            Targeted(JSMA(theta=1.0, gamma=0.1), "next"),
            {"torchattacks": peers.torchattacks_jsma(1.0, 0.1)},
        ),
        "FAB-T": ("median Linf", FAB(steps=50, targets=9), {"AutoAttack package": peers.package_fab(50)}),
        "APGD-CE": ("Linf", APGD(eps), {"AutoAttack package": peers.package(eps, ["apgd-ce"])}),
        "Square 1000": (
            "Linf",
            Square(eps, queries=1000),
            {"AutoAttack package": peers.package(eps, ["square"], 1000)},
        ),
        "AutoAttack standard": ("Linf", AutoAttack(eps), {"AutoAttack package": peers.package(eps, None)}),
    }


def _ours(attack: Attack) -> Run:
    return lambda model, x, y: attack.run(model, x, y).images


def _timed(on: Subject, run: Run, repeats: int, norm: str) -> list[float]:
    """Share still correct, size of the successes, passes an image, median seconds."""
    seconds = []
    for _ in range(repeats):
        model = Counted(on.model)
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            x_adv = run(model, on.x.clone(), on.y.clone()).detach()
        seconds.append(time.perf_counter() - began)
    with torch.no_grad():
        correct = on.model(x_adv).argmax(dim=1) == on.y
    passes = [model.forwards / len(on.x), model.backwards / len(on.x)]
    return [
        correct.float().mean().item(),
        _size(on.x[~correct], x_adv[~correct], norm),
        *passes,
        statistics.median(seconds),
    ]


def _size(clean: Tensor, adversarial: Tensor, norm: str) -> float:
    if not len(clean):
        return float("nan")
    if norm == "L0":
        return ((adversarial - clean).abs() > 1e-6).flatten(1).sum(dim=1).float().mean().item()
    sizes = perturbation_norms(clean, adversarial)[norm.removeprefix("median ")]
    return (sizes.median() if norm.startswith("median") else sizes.mean()).item()


if __name__ == "__main__":
    main()
