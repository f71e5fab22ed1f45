"""Image transformations as a defence (Tan, Te, Lai, 2019): Figure 6, with what is left once the attacker knows them.

``python -m experiments.image_transformations --root data``: MNIST and CIFAR-10, 1,000 images. Resumable: every purifier
under every attack and threat model is kept under ``--run``.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.classifiers import CIFAR10_NET, CIFAR10_RUN, MNIST_NET, fit, trained
from experiments.command import arguments
from experiments.image_transformations.smallest_budget import SmallestBudget
from experiments.image_transformations.tables import claims_table, main_table, sweep_table
from experiments.page import Page, prose
from experiments.purified import Cells, strip
from lightning_adv.attacks import FGSM, PGD, Attack, CarliniWagner, DeepFool, Square
from lightning_adv.data import CIFAR10, MNIST, ImageDataModule, float_images
from lightning_adv.purifiers import (
    JPEG,
    VQVAE,
    BitDepth,
    GaussianBlur,
    KMeansQuantization,
    MedianFilter,
    PurifiedClassifier,
    Purifier,
    ThreatModel,
    TotalVariation,
)
from lightning_adv.results.result import Table

__all__ = ["main"]

SHOWN = 8
"""Images of the picture."""

SWEPT, SWEPT_IMAGES = "pgd_at_0.1", 100
"""Attack of the sweeps, and the images under it that an attacker who knows the purifier is given."""


@dataclass(frozen=True)
class Setting:
    """A data set and what is trained on it.

    Args:
        images: the data set.
        colours: of K-means.
        classifier, vqvae: arguments of ``train.py fit``.
        noises: of the inputs of the VQ-VAEs.
        informed: images that the attacks which know the purifier are made on.
        costly: of them, those for attacks that average over draws or go through a network.
    """

    images: Callable[..., ImageDataModule]
    colours: int
    classifier: tuple[str, ...]
    vqvae: tuple[str, ...]
    noises: tuple[float, ...] = (0.0, 0.25, 0.75)
    informed: int = 1000
    costly: int = 200  # hours on two cores even so


SETTINGS = {
    "MNIST": Setting(
        MNIST,
        16,
        MNIST_NET,
        ("--model.channels=[16,32]", "--model.lr=0.001", "--trainer.max_epochs=1"),
    ),
    "CIFAR10": Setting(
        CIFAR10,
        50,
        CIFAR10_NET,
        ("--model.channels=[16,32]", "--model.lr=0.001", "--trainer.max_epochs=2"),
        informed=200,
        costly=50,
    ),
}


def attacks(quick: bool, informed: bool = False) -> dict[str, Attack]:
    """The paper's four, FGSM and PGD with the smallest budget that fools, as in Foolbox 2; then with fixed budgets.

    An attacker who knows the purifier has no reason to stop early or to look for the nearest image: C&W then searches
    two constants, for it is success that counts.
    """
    steps = 10 if quick else 40
    descent = {"steps": 40, "binary_search_steps": 2, "lr": 0.1} if quick else {"steps": 100, "lr": 0.05}
    if informed:
        descent["binary_search_steps"] = 2
        budgets = {"deepfool": DeepFool(), "fgsm_at_0.3": FGSM(0.3)}
        budgets |= {f"pgd_at_{eps}": PGD(eps, steps=steps) for eps in (0.3, 0.1)}
        return {"cw": CarliniWagner(initial_const=10, **descent)} | budgets
    return {
        "fgsm": SmallestBudget(FGSM(0.3), budgets=100),
        "pgd": SmallestBudget(PGD(0.3, steps=steps), budgets=30),
        "cw": CarliniWagner(initial_const=10, **descent),
        "deepfool": DeepFool(),
        "fgsm_at_0.3": FGSM(0.3),
        "pgd_at_0.3": PGD(0.3, steps=steps),
        "pgd_at_0.1": PGD(0.1, steps=steps),
    }


def purifiers(setting: Setting, vqvaes: dict[str, Path]) -> dict[str, Purifier]:
    """The paper's, with its parameters, and feature squeezing."""
    return {
        "jpeg": JPEG(90),
        "gaussian": GaussianBlur(0, 0.3),
        "kmeans": KMeansQuantization(setting.colours),
        "tv": TotalVariation(),
        **{f"vqvae_{noise}": VQVAE(str(folder)) for noise, folder in vqvaes.items()},
        "median": MedianFilter(3),
        "bits": BitDepth(3),
    }


def sweeps(vqvaes: dict[str, Path]) -> dict[str, dict[str, Purifier]]:
    """One parameter at a time."""
    return {
        "JPEG quality": {str(quality): JPEG(quality) for quality in (10, 25, 50, 75, 90, 100)},
        "K-means colours": {str(colours): KMeansQuantization(colours) for colours in (2, 4, 8, 16, 27)},
        "TV weight": {str(weight): TotalVariation(weight=weight) for weight in (0.01, 0.03, 0.1, 0.3)},
        **({"VQ-VAE noise": {noise: VQVAE(str(folder)) for noise, folder in vqvaes.items()}} if vqvaes else {}),
    }


def main() -> None:
    """Measure what is missing, write the page."""
    quick = "MNIST, 100 images, no VQ-VAE, shorter attacks"
    parser = arguments(__doc__, run="runs/image_transformations", quick=quick)
    parser.add_argument("--informed", type=int, help="images under informed attack, in place of 200 or 1,000")
    parser.add_argument("--data", nargs="+", choices=[*SETTINGS], help="default both")
    parser.add_argument("--only", nargs="+", help="measure these purifiers' cells, for a second process; no page")
    given = parser.parse_args()
    for name in ["MNIST"] if given.quick else given.data or [*SETTINGS]:
        stem = f"image_transformations_{name}{'_quick' * given.quick}"
        page = Page("experiments.image_transformations", stem, given.run)
        if tables := _measure(name, given, page):
            page.write(prose(__file__, name=name, stem=stem), tables, name)


def _measure(name: str, given: argparse.Namespace, page: Page) -> list[Table]:
    """The page's tables; none where some purifiers alone are measured."""
    setting, root, run, quick = SETTINGS[name], given.root, Path(given.run) / name, given.quick
    folder = CIFAR10_RUN if name == "CIFAR10" else run / "training"
    model = trained(name, root, folder, setting.classifier)
    noises = () if quick else setting.noises
    vqvaes = {f"{noise:g}": run / f"vqvae_{noise:g}" / "exported" for noise in noises}
    for noise, folder in vqvaes.items():
        how = ("--model=VQVAEModule", f"--model.noise={noise}", f"--model.export={folder}", *setting.vqvae)
        fit(folder / "config.json", name, root, folder.parent / "training", how)
    images = setting.images(root=root)
    images.setup()
    test, count = images.datasets["test"], 100 if quick else 1000
    index = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:count].sort().values
    data = float_images(test.images[index]), test.labels[index], index
    on = [min(count, given.informed or each) for each in (setting.informed, setting.costly)]
    cells = Cells(run / f"{count}{'_quick' * quick}", model, data, on, attack_draws=2 if quick else 8)
    named, knowing, each_purifier = attacks(quick), attacks(quick, informed=True), purifiers(setting, vqvaes)
    found = {
        ("none", each): {"blind": cells.undefended(each, attack)} for each, attack in {"none": None, **named}.items()
    }
    square = Square(0.3, queries=100 if quick else 1000)
    for label, purifier in each_purifier.items():
        if given.only and label not in given.only:
            continue
        found[label, "none"] = {"blind": cells.purified(label, purifier, "none", None, ThreatModel.BLIND)}
        for threat in ThreatModel:
            tried = {"square": square} if threat is ThreatModel.BLACK_BOX else knowing if threat.informed else named
            for attack, how in tried.items() if PurifiedClassifier(purifier, model).applies(threat) else ():
                row = found.setdefault((label, attack), {})
                row[threat.value] = cells.purified(label, purifier, attack, how, threat)
    if given.only:
        return []
    x, y, index = (part[:SHOWN] for part in cells.data[0])
    seen = {"clean": x, "attacked": cells.blind("fgsm", named["fgsm"])[0][:SHOWN]}
    seen |= {each: purify(seen["attacked"], index) for each, purify in each_purifier.items()}
    page.picture(strip(seen, y, model, "fgsm"), dpi=100)
    return [
        main_table(name, count, on, found),
        claims_table(name, found),
        *_sweep(name, cells, sweeps(vqvaes), named[SWEPT]),
    ]


def _sweep(name: str, cells: Cells, swept: dict[str, dict[str, Purifier]], attack: Attack) -> list[Table]:
    """Clean, blind and informed accuracy for each value of each parameter."""
    tables = []
    for parameter, values in swept.items():
        found = {}
        for value, purifier in values.items():
            label = f"{parameter} {value}"
            threat = ThreatModel.BPDA_EOT if purifier.randomised else ThreatModel.BPDA
            threat = ThreatModel.ADAPTIVE if purifier.differentiable else threat
            clean = cells.purified(label, purifier, "none", None, ThreatModel.BLIND)
            blind = cells.purified(label, purifier, SWEPT, attack, ThreatModel.BLIND)
            found[value] = [clean, blind, cells.purified(label, purifier, SWEPT, attack, threat, most=SWEPT_IMAGES)]
        informed = [min(SWEPT_IMAGES, each) for each in cells.informed]
        tables.append(sweep_table(f"{name}: {parameter}", SWEPT, informed, found))
    return tables


if __name__ == "__main__":
    main()
