"""Concealed backdoor attacks: Tables 1 to 6, measured beside the paper's figures.

``python -m experiments.concealed_backdoors --root data`` goes through all cells, headlines first, ``--repeats`` times.
Resumable: a cell's repeat is one JSON file under ``--run``; the page is written from whatever is there, and beside it
the repeats themselves, from which a fresh checkout goes on. ``--quick`` does MNIST's headlines once with 2,000 training
images; ``--wide`` takes the network and the training that Neural Cleanse's authors have for MNIST, at five times the
cost; ``--page`` writes the page and measures nothing.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from experiments.concealed_models import clean_triggers, images_of, owned, subject_of
from experiments.concealed_pictures import found_triggers
from experiments.concealed_setup import SETTINGS, WIDE_MNIST, Attack, Cell, Setting, cells_of
from experiments.concealed_tables import AUTHORS, PARTS, TEXT, WIDE_TEXT, all_tables, budgets
from experiments.page import RESULTS, write_page
from experiments.records import claim, restore_records, write_records
from lightning_adv.backdoors import MaskedPattern, save_triggers
from lightning_adv.backdoors.trigger import PatternTrigger
from lightning_adv.detectors import STRIP
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.inspectors import ClassTrigger, DeepInspect, InspectionReport, NeuralCleanse
from lightning_adv.metrics.detection import auroc
from lightning_adv.mitigations import FinePruning, Mitigation, NeuralCleanseUnlearning
from lightning_adv.reports.run import run_info
from lightning_adv.results.figures import png

__all__ = ["QUICK", "authors_budget", "in_order", "kept", "measure", "quick"]

QUICK = {"max_train_samples": 2000, "max_test_samples": 500}


def main() -> None:
    """Measure what is missing, write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--run", default="runs/concealed_backdoors")
    arguments.add_argument("--data", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    arguments.add_argument("--repeats", type=int, default=10)
    arguments.add_argument("--headline", action="store_true", help="only the controls and the headline of each table")
    arguments.add_argument("--attacks", nargs="+", choices=get_args(Attack), help="only these")
    arguments.add_argument("--quick", action="store_true", help="MNIST's headlines, once, on few images")
    arguments.add_argument("--wide", action="store_true", help="MNIST with the network of Neural Cleanse's authors")
    arguments.add_argument("--full", action="store_true", help="also inspect headlines with the authors' budget")
    arguments.add_argument("--page", action="store_true", help="write the page from what is there")
    given = arguments.parse_args()
    started = datetime.now(UTC)
    settings, run = SETTINGS, Path(given.run)
    names, repeats, headline = given.data, given.repeats, given.headline
    if given.quick:
        settings, run = {"MNIST": quick(SETTINGS["MNIST"])}, run / "quick"
        names, repeats, headline = ["MNIST"], 1, True
    elif given.wide:
        settings, run, names = {"MNIST": WIDE_MNIST}, run / "wide", ["MNIST"]
    variant = "quick" if given.quick else "wide" if given.wide else ""
    page = "_".join(["concealed_backdoors", *([variant] * bool(variant))])
    records, words = RESULTS / f"{page}.json", {name: each.in_words for name, each in settings.items()}
    try:
        for name in words:
            claim(run / name, words[name])
    except InputError as error:
        arguments.error(str(error))
    if restored := restore_records(records, words, run):
        print(f"{restored} repeats measured before: {records}", flush=True)
    for cell, repeat in [] if given.page else in_order(names, repeats, headline):
        if given.attacks and cell.attack not in given.attacks:
            continue
        kept(cell, repeat, settings[cell.data], given.root, run)
        if given.full:
            authors_budget(cell, repeat, settings[cell.data], given.root, run)
    found = {path.relative_to(run).as_posix(): json.loads(path.read_text()) for path in sorted(run.glob("*/*/*.json"))}
    command = ["python", "-m", "experiments.concealed_backdoors", "--root", "data", *([f"--{variant}"] * bool(variant))]
    info = run_info(0, given.run, started, finished=datetime.now(UTC), command=command)
    write_records(records, words, found)
    there = {name: each for name, each in settings.items() if any(key.startswith(f"{name}/") for key in found)}
    text = f"{WIDE_TEXT if given.wide else TEXT}\n\n{budgets(there)}"
    for name, each in there.items():
        picture = f"{page}_{name}.png"
        if (figure := found_triggers(run, name, each.target)) is not None:
            replace_atomically(RESULTS / picture, png(figure, dpi=110))
        if (RESULTS / picture).is_file():
            text += f"\n\n![Triggers of {name}, hidden and found]({picture})"
    title = "Concealed backdoor attacks" + " on the network of Neural Cleanse's authors" * given.wide
    print(write_page(page, title, text, all_tables(found), info, ", ".join(there)))


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
    path = run / cell.data / cell.name / f"{repeat}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _supply_triggers(cell, repeat, setting, root, run)
        began = time.perf_counter()
        found = measure(cell, repeat, setting, root, run)
        found["seconds"] = time.perf_counter() - began
        replace_atomically(path, json.dumps(found))
        shown = {key: found[key] for key in ("attack_success_rate", "clean_accuracy") if key in found}
        print(
            cell.data,
            cell.name,
            repeat,
            shown,
            found["neural_cleanse"]["flagged"],
            f"{found['seconds']:.0f} s",
            flush=True,
        )
    return json.loads(path.read_text())


def _supply_triggers(cell: Cell, repeat: int, setting: Setting, root: str, run: Path) -> None:
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
        "fine_pruning": FinePruning(accuracy_drop=0.04, seed=repeat),
        "unlearning": NeuralCleanseUnlearning(triggers=str(own), seed=repeat),
    }
    for name, mitigation in repairs.items():
        repaired = copy.deepcopy(model)
        report = mitigation(repaired, [(x, y)])
        found[name] = {
            "clean_accuracy": _share(repaired, image, label),
            "attack_success_rate": _share(repaired, triggered, goal),
            "pruned": len(report.repair.pruned),
            "unlearnt": list(report.repair.unlearnt),
            "clipped": any("clipped" in each for each in report.repair.warnings),
        }
    return found


@torch.no_grad()
def _share(model: nn.Module, image: Tensor, label: Tensor) -> float:
    said = torch.cat([model(part).argmax(dim=1) for part in image.split(500)])
    return int((said == label).sum()) / len(label)


def authors_budget(cell: Cell, repeat: int, setting: Setting, root: str, run: Path) -> None:
    """Inspect a model of the experiment as Neural Cleanse's authors do; kept beside what the other budget found."""
    path = run / cell.data / f"{cell.name}{AUTHORS}" / f"{repeat}.json"
    if path.is_file():
        return
    _supply_triggers(cell, repeat, setting, root, run)
    data, _, model = subject_of(cell, repeat, setting, root, run)
    x, y = owned(data)
    report = NeuralCleanse(seed=repeat)(model, [(x[: setting.clean_images], y[: setting.clean_images])])
    replace_atomically(path, json.dumps(_verdict(report, setting.target)))
    print(cell.data, cell.name, repeat, "authors' budget:", report.flagged, flush=True)


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


if __name__ == "__main__":
    main()
