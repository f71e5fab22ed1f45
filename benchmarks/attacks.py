"""Attacks beside torchattacks, foolbox, ART and the AutoAttack package: strength, size, passes and time in one run.

``python -m benchmarks.attacks --root data`` (extra ``bench``); writes ``docs/results/attacks.md``, and with ``--wide``
``docs/results/autoattack.md``: AutoAttack on a wider network, whose passes gain more by bfloat16.
"""

import contextlib
import copy
import importlib.metadata
import io
import logging
import statistics
import warnings
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.bench import bench, kept
from benchmarks.claims import claims
from benchmarks.subjects import NETS, WIDE, Subject
from experiments.command import arguments, command, show
from experiments.cost import Counted, in_turn, seconds
from experiments.networks import all_predicted
from experiments.page import prose
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
    SearchLow,
    Square,
    Targeted,
    perturbation_norms,
)
from lightning_adv.models import compile_classifier, computes_in_bf16
from lightning_adv.results.result import Cell, Table

__all__ = ["main"]

PACKAGE = "AutoAttack package"
LIBRARIES = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "ART": "adversarial-robustness-toolbox",
    PACKAGE: "pyautoattack",
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
WIDE_SAMPLES = 160
"""So many that those which stay robust, one in four, fill a batch."""
OURS, FLOOR, COMPILED = "lightning_adv", "counted floor", "lightning_adv, compiled"
LAST, LOW = "lightning_adv, channels last", "lightning_adv, bf16"
COMPILED_LOW = "lightning_adv, compiled, bf16"
WIDE_BESIDE = (PACKAGE, COMPILED_LOW)
"""On the wider network: each setting costs as much as all of the narrow one's."""


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
    peers: dict[str, peers.Run]
    images: int | None = None
    repeats: int = 1


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--wide", action="store_true", help="AutoAttack alone, on a network of width 32")
    parser.add_argument("--fresh", action="store_true", help="measure again what an interrupted run had measured")
    given = parser.parse_args()
    page = bench("attacks", "autoattack" if given.wide else None)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    tables = []
    for name in [WIDE] if given.wide else [each for each in NETS if each != WIDE]:
        if given.wide:
            on = Subject(name, given.root, WIDE_SAMPLES)
            beside = {each: run for each, run in _ensemble(on.eps).items() if each in WIDE_BESIDE}
            cases = {"AutoAttack standard": Case("Linf", AutoAttack(on.eps), beside)}
        else:
            on = Subject(name, given.root, given.samples)
            # The net for CIFAR-10 costs sixteen times as much a pass: the slowest peers get fewer images there.
            cases = _suite(on.eps, on.x[0].numel(), (50, 100, 100) if name == "MNIST" else (16, 8, 32))
        tables.append(Table(name, COLUMNS, _measure(on, cases, given.fresh), percent=("still correct",)))
    libraries = {PACKAGE: LIBRARIES[PACKAGE]} if given.wide else LIBRARIES
    versions = ", ".join(f"{name} {importlib.metadata.version(package)}" for name, package in libraries.items())
    networks = prose(__file__, "Wide" if given.wide else "Narrow")
    text = prose(__file__, threads=torch.get_num_threads(), versions=versions, networks=networks)
    page.write(
        text, [claims(tables), *tables], "CIFAR-10 test images" if given.wide else "MNIST and CIFAR-10 test images"
    )


def _measure(on: Subject, cases: dict[str, Case], fresh: bool) -> list[list[Cell]]:
    """Rows of all cases, each case in one go; those of an interrupted run are kept beside the models."""
    rows: list[list[Cell]] = []
    for name, case in cases.items():
        rows += kept(fresh).figures(f"{on.name}-{name}-{len(on.x)}", partial(_beside, on, name, case))
    return rows


def _beside(on: Subject, name: str, case: Case) -> list[list[Cell]]:
    x, y = on.x[: case.images], on.y[: case.images]
    runs = {OURS: (on.model, _ours(case.ours))} | {peer: (on.model, run) for peer, run in case.peers.items()}
    if COMPILED in runs or COMPILED_LOW in runs:
        compiled = _compiled(on.model, x, y)
        runs |= {name: (compiled, runs[name][1]) for name in (COMPILED, COMPILED_LOW) if name in runs}
    if LAST in runs:
        runs[LAST] = (copy.deepcopy(on.model).to(memory_format=torch.channels_last), _channels_last(case.ours))
    found: dict[str, Tensor] = {}
    passes: dict[str, list[float]] = {}

    def timed(library: str, model: nn.Module, run: peers.Run) -> float:
        """CPU seconds; notes the adversarial images, and forwards and backwards an image."""
        counted = Counted(model)
        with contextlib.redirect_stdout(io.StringIO()):
            took = seconds(lambda: found.update({library: run(counted, x.clone(), y.clone()).detach()}))
        passes[library] = [counted.forwards / len(x), counted.backwards / len(x)]
        return took

    taken = in_turn({library: partial(timed, library, *each) for library, each in runs.items()}, case.repeats)
    correct = {library: all_predicted(on.model, images) == y for library, images in found.items()}
    median = {library: statistics.median(each) for library, each in taken.items()}
    rows: list[list[Cell]] = []
    for library in runs:
        ratio = None if library == OURS else median[library] / median[OURS]
        broken = ~correct[library]
        size = _size(x[broken], found[library][broken], case.norm)
        both = broken & ~correct[OURS]  # a library that fails on the hard images has the smaller mean
        theirs, ours = (_size(x[both], found[each][both], case.norm) for each in (library, OURS))
        beside = None if library == OURS or not theirs else ours / theirs
        share = correct[library].float().mean().item()
        rows.append([name, library, len(x), share, size, beside, *passes[library], median[library], ratio])
        show(rows[-1], on.name)
    return rows


def _compiled(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    """The compiled classifier, warmed up on the kinds of passes and batches of an attack."""
    compiled = compile_classifier(copy.deepcopy(model))  # which finds out by itself that the batch size changes
    # With labels that no tiny budget breaks, so that every attack has its turn.
    kinds = APGD(1e-3, steps=2), FAB(1e-3, steps=2, targets=2), Square(1e-3, queries=3)
    for count in (len(x), len(x) - 3, 9, 1):
        for attack in (*kinds, *(map(SearchLow, kinds) if computes_in_bf16(x.device) else ())):
            attack.run(compiled, x[:count], y[:count])
    return compiled


def _suite(eps: float, values: int, few: tuple[int, int, int]) -> dict[str, Case]:
    """The cases for images of so many values; ``few``: images of C&W, JSMA, and FAB and AutoAttack."""
    import foolbox.attacks
    import torchattacks
    from art.attacks.evasion import CarliniL2Method, ProjectedGradientDescentPyTorch

    # An even number of values, so that all round alike: a tenth on MNIST, fifteen pairs on CIFAR-10.
    gamma = 2 * min(values // 20, 15 if values > 1000 else 39) / values
    step, l2 = eps / 4, 10 * eps
    of_torch, of_foolbox = peers.of_torchattacks, peers.of_foolbox
    art_pgd = {"eps": eps, "eps_step": step, "max_iter": 40, "num_random_init": 1}
    search = {"binary_search_steps": 5, "initial_const": 1.0}
    nearest = foolbox.attacks.L2CarliniWagnerAttack(steps=100, stepsize=0.05, **search)
    fgsm = {
        "torchattacks": of_torch(torchattacks.FGSM, eps=eps),
        "foolbox": of_foolbox(foolbox.attacks.LinfFastGradientAttack(random_start=False), eps),
    }
    pgd = {
        FLOOR: peers.bare_passes(40),
        "torchattacks": of_torch(torchattacks.PGD, eps=eps, alpha=step, steps=40, random_start=True),
        "foolbox": of_foolbox(foolbox.attacks.LinfPGD(abs_stepsize=step, steps=40), eps),
        "ART": peers.of_art(ProjectedGradientDescentPyTorch, **art_pgd),
    }
    pgd_l2 = {
        FLOOR: peers.bare_passes(40),
        "torchattacks": of_torch(torchattacks.PGDL2, eps=l2, alpha=l2 / 10, steps=40, random_start=True),
        "foolbox": of_foolbox(foolbox.attacks.L2PGD(abs_stepsize=l2 / 10, steps=40), l2),
    }
    deepfool = {
        "foolbox": of_foolbox(foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)),
        "torchattacks": of_torch(torchattacks.DeepFool, steps=50, overshoot=0.02),
    }
    cw = {
        "foolbox": of_foolbox(nearest),
        "ART": peers.of_art(CarliniL2Method, learning_rate=0.05, max_iter=100, **search),
    }
    ce = {PACKAGE: peers.package(eps, ["apgd-ce"]), **_faster(APGD(eps))}
    square = {PACKAGE: peers.package(eps, ["square"], 1000), **_faster(Square(eps, queries=1000))}
    jsma = {"torchattacks": of_torch(torchattacks.JSMA, theta=1.0, gamma=gamma)}
    return {
        "FGSM": Case("Linf", FGSM(eps), fgsm, repeats=3),
        "PGD-40": Case("Linf", PGD(eps, step, steps=40), pgd, repeats=5),
        "PGD-40 L2": Case("L2", PGD(l2, l2 / 10, steps=40, norm="L2"), pgd_l2, repeats=5),
        "DeepFool L2": Case("L2", DeepFool(steps=50, candidates=10, norm="L2"), deepfool),
        "C&W L2": Case("L2", CarliniWagner(steps=100, lr=0.05, **search), cw, few[0]),
        "JSMA": Case("L0", Targeted(JSMA(theta=1.0, gamma=gamma), "next"), jsma, few[1]),
        "FAB-T": Case("median Linf", FAB(steps=50, targets=9), {PACKAGE: peers.package_fab(50)}, few[2]),
        "APGD-CE": Case("Linf", APGD(eps), ce),
        "Square 1000": Case("Linf", Square(eps, queries=1000), square),
        "AutoAttack standard": Case("Linf", AutoAttack(eps), _ensemble(eps), few[2]),
    }


def _ensemble(eps: float) -> dict[str, peers.Run]:
    attack = AutoAttack(eps)
    faster = _faster(attack)
    compiled = {COMPILED: _ours(attack)} | ({COMPILED_LOW: faster[LOW]} if LOW in faster else {})
    return {PACKAGE: peers.package(eps, None), **faster, **compiled}


def _faster(attack: Attack) -> dict[str, peers.Run]:
    """The settings in which an attack runs faster here, by name."""
    low = {LOW: _ours(SearchLow(attack))} if computes_in_bf16(torch.device("cpu")) else {}
    return {LAST: _channels_last(attack), **low}


def _channels_last(attack: Attack) -> peers.Run:
    return lambda model, x, y: attack.run(model, x.contiguous(memory_format=torch.channels_last), y).images


def _ours(attack: Attack) -> peers.Run:
    return lambda model, x, y: attack.run(model, x, y).images


def _size(clean: Tensor, adversarial: Tensor, norm: str) -> float | None:
    if not len(clean):
        return None
    if norm == "L0":
        return ((adversarial - clean).abs() > 1e-6).flatten(1).sum(dim=1).float().mean().item()
    sizes = perturbation_norms(clean, adversarial)[norm.removeprefix("median ")]
    return (sizes.median() if norm.startswith("median") else sizes.mean()).item()


if __name__ == "__main__":
    command(main)
