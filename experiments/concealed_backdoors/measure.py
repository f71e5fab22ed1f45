"""A cell of the concealed-backdoor experiment: one model trained, attacked, inspected and repaired, and kept."""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.concealed_backdoors.models import clean_triggers, images_of, owned, subject_of
from experiments.concealed_backdoors.setup import Cell, Setting, cells_of
from experiments.concealed_backdoors.tables import AUTHORS, PARTS
from experiments.kept import Kept
from experiments.networks import all_predicted
from lightning_adv.backdoors import MaskedPattern, save_triggers
from lightning_adv.backdoors.trigger import PatternTrigger
from lightning_adv.detectors import STRIP
from lightning_adv.inspectors import ClassTrigger, DeepInspect, InspectionReport, NeuralCleanse
from lightning_adv.metrics.detection import auroc
from lightning_adv.mitigations import FinePruning, Mitigation, NeuralCleanseUnlearning

__all__ = ["QUICK", "authors_budget", "in_order", "kept", "measure", "quick", "supply_triggers"]

QUICK = {"max_train_samples": 2000, "max_test_samples": 500}
"""Images of a trial."""


def in_order(names: Sequence[str], repeats: int, headline: bool) -> Iterator[tuple[Cell, int]]:
    """Headlines of all data sets, repeat by repeat, then the other cells."""
    for only_headlines in (True,) if headline else (True, False):
        for repeat in range(repeats):
            for name in names:
                yield from ((cell, repeat) for cell in cells_of(name, only_headlines))


def quick(setting: Setting) -> Setting:
    """The setting with few images and steps."""
    budget = {"cleanse": {"steps": 30, "images_per_step": 64}, "inspect": {"steps": 20, "images_per_step": 32}}
    return replace(setting, arguments=QUICK, epochs=4, poisoned=200, clean_images=200, samples=100, **budget)


def kept(cell: Cell, repeat: int, setting: Setting, root: str, run: Path) -> dict:
    """What was measured of a cell's repeat, from its file if there is one."""

    def make() -> dict:
        supply_triggers(cell, repeat, setting, root, run)
        began = time.perf_counter()
        return {**measure(cell, repeat, setting, root, run), "seconds": time.perf_counter() - began}

    return Kept(run / cell.data / cell.name).figures(str(repeat), make)


def supply_triggers(cell: Cell, repeat: int, setting: Setting, root: str, run: Path) -> None:
    """Measure the clean model whose triggers a cell takes; a record of its figures is not enough."""
    if cell.attack == "reconstructed" and not clean_triggers(cell, repeat, run).is_file():
        clean = Cell(cell.data, "clean")
        (run / clean.data / clean.name / f"{repeat}.json").unlink(missing_ok=True)
        kept(clean, repeat, setting, root, run)


def measure(cell: Cell, repeat: int, setting: Setting, root: str, run: Path) -> dict:
    """Train, attack, inspect and repair one model.

    Args:
        cell: the attack.
        repeat: seed of everything that is random in it.
        setting: data, network, budgets.
        root: folder of the data.
        run: folder that keeps the clean models' triggers.

    Returns:
        Accuracies, verdicts and what the defences do, as plain data.
    """
    data, trigger, model = subject_of(cell, repeat, setting, root, run)
    image, label = images_of(data.datasets["test"])
    x, y = owned(data)
    few = [(x[: setting.clean_images], y[: setting.clean_images])]
    cleanse = NeuralCleanse(**setting.cleanse, seed=repeat)(model, few)
    found: dict[str, object] = {
        "clean_accuracy": _share(model, image, label),
        "neural_cleanse": _verdict(cleanse, setting.target),
        "deep_inspect": _verdict(DeepInspect(**setting.inspect, seed=repeat)(model, few), setting.target),
    }
    own = run / cell.data / cell.name / f"{repeat}.safetensors"
    own = clean_triggers(cell, repeat, run) if trigger is None else own
    flagged = {"flagged": " ".join(map(str, cleanse.flagged or ()))}
    save_triggers(own, cleanse.masks, cleanse.patterns, torch.tensor(cleanse.labels), flagged)
    if trigger is None:
        return found
    others = label != setting.target
    triggered, goal = trigger(image[others]), torch.full((int(others.sum()),), setting.target)
    found["attack_success_rate"] = _share(model, triggered, goal)
    found["mask_pixels"] = float(trigger.mask_and_pattern(tuple(image.shape[1:]))[0].sum())
    found["recovered"] = _recovered(trigger, next(each for each in cleanse.triggers if each.label == setting.target))
    found["partly"] = _partly(model, trigger, image[others][: setting.clean_images], setting.target, repeat)
    strip = STRIP(seed=repeat).fit(model, few)
    found["strip_auroc"] = auroc(*(strip.score(model, each[: setting.samples]) for each in (image, triggered)))
    repairs: dict[str, Mitigation] = {
        "fine_pruning": FinePruning(accuracy_drop=0.04, lr=0.05, seed=repeat),
        "unlearning": NeuralCleanseUnlearning(triggers=str(own), lr=0.02, seed=repeat),
    }
    for name, mitigation in repairs.items():
        repaired = copy.deepcopy(model)
        report = mitigation(repaired, [(x, y)])
        found[name] = {
            "clean_accuracy": _share(repaired, image, label),
            "attack_success_rate": _share(repaired, triggered, goal),
            "pruned": report.repair.pruned,
            "unlearnt": list(report.repair.unlearnt),
            "clipped": any("clipped" in each for each in report.repair.warnings),
        }
    return found


def _share(model: nn.Module, image: Tensor, label: Tensor) -> float:
    return int((all_predicted(model, image) == label).sum()) / len(label)


def authors_budget(cell: Cell, repeat: int, setting: Setting, root: str, run: Path) -> None:
    """Inspect a model of the experiment as Neural Cleanse's authors do; kept beside what the other budget found."""

    def make() -> dict[str, object]:
        supply_triggers(cell, repeat, setting, root, run)
        data, _, model = subject_of(cell, repeat, setting, root, run)
        x, y = owned(data)
        few = [(x[: setting.clean_images], y[: setting.clean_images])]
        return _verdict(NeuralCleanse(seed=repeat)(model, few), setting.target)

    Kept(run / cell.data / f"{cell.name}{AUTHORS}").figures(str(repeat), make)


def _recovered(trigger: PatternTrigger, found: ClassTrigger) -> dict[str, float]:
    """How the target's reconstructed trigger lies over the true one."""
    mask, pattern = trigger.mask_and_pattern(tuple(found.pattern.shape))
    both = ((mask > 0.5) & (found.mask > 0.5)).expand_as(pattern)
    return {
        "pixels": int((found.mask > 0.5).sum()),
        "true_pixels": int((mask > 0.5).sum()),
        "common_pixels": int(both[0].sum()),
        "value": float(found.pattern[both].mean()),
        "true_value": float(pattern[both].mean()),
    }


def _partly(model: nn.Module, trigger: PatternTrigger, image: Tensor, target: int, seed: int) -> dict[str, list[float]]:
    """Share of images that a random part of the trigger's pixels leads to the target: as they are, and made white."""
    mask, pattern = trigger.mask_and_pattern(tuple(image.shape[1:]))
    white = MaskedPattern(mask=(mask > 0.5).float(), pattern=torch.ones_like(pattern))
    number, goal = torch.arange(len(image)), torch.full((len(image),), target)
    return {
        name: [_share(model, each.cover(image, rate, seed, number), goal) for rate in PARTS]
        for name, each in (("own", trigger), ("white", white))
    }


def _verdict(report: InspectionReport, target: int) -> dict[str, object]:
    found = {each.label: each for each in report.triggers}
    return {  # a target that an inspector cannot judge has evaded it
        "flagged": report.flagged or [],
        "significant": report.significant or [],
        "index": report.anomaly_index[target],
        "norm": found[target].norm,
        "median": report.outliers.median,
        "norms": report.norms,
        "statuses": [each.status for each in report.triggers],
    }
