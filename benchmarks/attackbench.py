"""Attacks under the protocol of AttackBench (Cinà et al., 2025): optimality within a budget of passes, and seconds.

``python -m benchmarks.attackbench --root data``; writes ``docs/results/attackbench.md``. AttackBench runs and judges
all attacks, ours as those of the libraries that it knows. It pins old versions of much: beside the extra ``bench`` and
torchattacks, ``pip install --no-deps attackbenchlib adversarial-robustness-toolbox cleverhans six``.
"""

import copy
import importlib.metadata
import math
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial, wraps
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.bench import bench, kept
from experiments.command import arguments, command, show
from experiments.networks import all_predicted, images_of
from experiments.page import prose
from lightning_adv.attacks import DDN, FAB, Attack, CarliniWagner, DeepFool
from lightning_adv.data import CIFAR10, MNIST
from lightning_adv.modules import ClassifierModule
from lightning_adv.results.result import Cell, Table

__all__ = ["failures_are_far", "main", "ours", "within_budget"]

OURS = "lightning_adv"
SUBJECTS: dict[str, tuple[type[MNIST | CIFAR10], str]] = {
    "MNIST": (MNIST, "zoo/mnist_pgd"),
    "CIFAR10": (CIFAR10, "zoo/cifar10_fast"),
}
LIBRARIES = {
    "AttackBench": "attackbenchlib",
    "adv-lib": "adv-lib",
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "ART": "adversarial-robustness-toolbox",
}
COLUMNS = ["attack", "library", "optimality", "success", "median", "forwards", "backwards", "CPU seconds"]
ATTACKS: dict[str, dict[str, Attack]] = {
    "l2": {
        "DDN, 1,000 steps": DDN(steps=1000),
        "DDN, 1,000 steps, sphere of the paper": DDN(steps=1000, gamma=0.05, last_gamma=0.05, radius=1.0),
        "CarliniWagner": CarliniWagner(),
        "CarliniWagner, 5 descents of 200": CarliniWagner(200, lr=0.02, binary_search_steps=5, initial_const=1.0),
        "FAB": FAB(norm="L2"),
        "DeepFool": DeepFool(norm="L2"),
    },
    "linf": {
        "CarliniWagner": CarliniWagner(norm="Linf"),
        "FAB": FAB(norm="Linf"),
        "DeepFool": DeepFool(norm="Linf"),
    },
}
PEERS: dict[str, list[tuple[str, str]]] = {
    "l2": [
        ("adv_lib", "cw_l2"),
        ("adv_lib", "ddn"),
        ("adv_lib", "fmn"),
        ("adv_lib", "alma"),
        ("adv_lib", "pdgd"),
        ("foolbox", "cw_l2"),
        ("foolbox", "ddn"),
        ("torchattacks", "cw_l2"),
        ("torchattacks", "deepfool"),
        ("art", "deepfool"),
        ("original", "superdeepfool"),
    ],
    "linf": [
        ("adv_lib", "fab"),
        ("adv_lib", "fmn"),
        ("adv_lib", "tr"),
        ("adv_lib", "pdpgd"),
        ("adv_lib", "cw_linf"),
        ("foolbox", "fmn"),
        ("foolbox", "deepfool"),
        ("torchattacks", "fab"),
    ],
}
KEPT = ["distances", "correct", "ori_success", "adv_success", "num_forwards", "num_backwards", "times", "metadata"]
"""Of what AttackBench says of a run."""

Function = Callable[..., Tensor]
"""An attack as AttackBench calls it: model, inputs and labels to images."""


def main() -> None:
    """Measure and write."""
    import attackbench

    parser = arguments(__doc__)
    parser.add_argument("--data", nargs="+", choices=[*SUBJECTS], default=[*SUBJECTS])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--budget", type=int, default=attackbench.DEFAULT_QUERY_BUDGET)
    parser.add_argument("--fresh", action="store_true", help="measure again what an interrupted run had measured")
    given = parser.parse_args()
    page = bench("attackbench")
    warnings.simplefilter("ignore")
    tables = []
    for data in given.data:
        model, images = _subject(data, given.root, given.samples)
        for norm, attacks in ATTACKS.items():
            functions = {(name, OURS): partial(ours, attack) for name, attack in attacks.items()}
            for library, name in PEERS[norm]:
                functions[name, library] = attackbench.get_attack(lib=library, attack=name, threat_model=norm)
            runs = {}
            for (name, library), function in functions.items():
                what = f"attackbench-{data}-{norm}-{library}-{name}-{given.samples}-{given.budget}"
                make = partial(_run, model, images, function, norm, given.budget)
                runs[name, library] = kept(given.fresh).figures(what, make, str(attacks.get(name, "")))
            tables.append(Table(f"{data}, {norm.capitalize()}", COLUMNS, _rows(runs, norm), percent=("success",)))
            for row in tables[-1].rows:
                show(row, data, norm)
    versions = ", ".join(f"{name} {importlib.metadata.version(package)}" for name, package in LIBRARIES.items())
    networks = " and ".join(f"`{SUBJECTS[data][1]}`" for data in given.data)
    text = prose(__file__, networks=networks, samples=given.samples, budget=given.budget, versions=versions)
    page.write(text, tables, " and ".join(f"{data} test images" for data in given.data))


class Spent(Exception):
    """Every image has had its budget of passes."""


def within_budget(attack: Function) -> Function:
    """The same attack, ended when nothing that it shows to the network counts any more."""

    def stop(model: nn.Module, _: object) -> None:
        if model.is_out_of_query_budget:
            raise Spent

    @wraps(attack)  # AttackBench gives an attack the arguments that its signature names
    def run(**given: object) -> Tensor:
        watch = given["model"].register_forward_pre_hook(stop)
        try:
            return attack(**given)
        except Spent:
            return given["inputs"]
        finally:
            watch.remove()

    return run


def ours(attack: Attack, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """One of our attacks as AttackBench calls it."""
    return attack.run(model, inputs, labels).images


def _subject(name: str, root: str, samples: int) -> tuple[nn.Module, DataLoader]:
    """A robust network of the zoo and the first test images that it gets right, in one batch."""
    images, weights = SUBJECTS[name]
    data = images(root=root)
    data.setup("test")
    known = {"num_classes": data.num_classes, "in_channels": data.in_channels, "image_size": data.image_size}
    model = ClassifierModule(weights=weights, **known).backbone.eval()
    x, y = images_of(data, "test", last=4 * samples)
    right = all_predicted(model, x) == y
    return model, DataLoader(TensorDataset(x[right][:samples], y[right][:samples]), batch_size=samples)


def _run(
    model: nn.Module, images: DataLoader, attack: Function, norm: str, budget: int
) -> dict[str, list[float] | dict[str, object]]:
    """What AttackBench says of an attack; in CPU seconds, which other work on the machine hardly changes."""
    from attackbench import run_attack
    from attackbench.models import benchmodel_wrapper

    with patch.object(benchmodel_wrapper, "time", SimpleNamespace(perf_counter=time.process_time)):
        # A copy, since each run leaves a hook in its model.
        said = run_attack(
            copy.deepcopy(model), images, within_budget(attack), norm, torch.device("cpu"), budget, debug=True
        )
    return {name: said[name] for name in KEPT}


def _rows(runs: dict[tuple[str, str], dict], norm: str) -> list[list[Cell]]:
    """An attack a row, the best first; optimality beside the nearest that any of them found for each image."""
    from attackbench import compare_attacks_optimality

    found = {which: failures_are_far(said["distances"][norm]) for which, said in runs.items()}
    judged = [said | {"distances": {norm: found[which]}} for which, said in runs.items()]
    scores = compare_attacks_optimality(judged, norm, list(runs))["optimality_scores"]
    rows: list[list[Cell]] = []
    for which in sorted(runs, key=scores.get, reverse=True):
        said = runs[which]
        passes = [statistics.mean(said[f"num_{kind}"]) for kind in ("forwards", "backwards")]
        success = sum(math.isfinite(each) for each in found[which]) / len(found[which])
        median = statistics.median(found[which])
        rows.append([*which, scores[which], success, median, *passes, sum(said["times"])])
    return rows


def failures_are_far(distances: list[float]) -> list[float]:
    """Distances, infinite where an attack gave an image of NaN: one such would take the image from every attack."""
    return [math.inf if math.isnan(each) else each for each in distances]


if __name__ == "__main__":
    command(main)
