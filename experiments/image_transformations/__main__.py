"""Image transformations as a defence (Tan, Te, Lai, 2019): Figures 6 and 7, with what is left once they are known.

``python -m experiments.image_transformations --root data``: MNIST and CIFAR-10, 1,000 images, networks that two cores
train or that come with the package; ``--paper`` trains the paper's. Resumable: every purifier under every attack and
threat model is kept under ``--run``.
"""

import argparse
import json
from pathlib import Path

import torch

from experiments.classifiers import CIFAR10_RUN, fit, trained
from experiments.command import arguments, command
from experiments.image_transformations.foolbox2 import SearchedFGSM
from experiments.image_transformations.settings import PAPER, SETTINGS, Setting, attacks, purifiers, sweeps
from experiments.image_transformations.tables import (
    Figures,
    claims_table,
    fineness_table,
    main_table,
    mistakes_table,
    networks_table,
    sweep_table,
)
from experiments.page import RESULTS, Page, prose
from experiments.purified import Cells, strip
from experiments.records import claim, restore_records, write_records
from lightning_adv.attacks import Attack, Square
from lightning_adv.data import float_images
from lightning_adv.modules import ClassifierModule
from lightning_adv.purifiers import VQVAE, PurifiedClassifier, Purifier, ThreatModel
from lightning_adv.results.purification_figures import confusions
from lightning_adv.results.result import Table

__all__ = ["main"]

SHOWN = 8
"""Images of the picture."""

SWEPT, SWEPT_IMAGES = "pgd_at_0.1", 100
"""Attack of the sweeps, and the images under it that an attacker who knows the purifier is given."""

BUDGETS = (500, 1000, 5000)
"""Of fgsm's search, where it is measured how much hangs on their number."""

CONFUSED = ("jpeg", "vqvae_0")
"""Purifiers of Figure 7."""


def main() -> None:
    """Measure what is missing, write the page."""
    quick = "MNIST, 100 images, no VQ-VAE, shorter attacks"
    parser = arguments(__doc__, run="runs/image_transformations", quick=quick)
    parser.add_argument("--paper", action="store_true", help="the paper's networks, which want a GPU")
    parser.add_argument("--images", type=int, help="test images in place of 1,000")
    parser.add_argument("--informed", type=int, help="images under informed attack, in place of 200 or 1,000")
    parser.add_argument("--noises", type=float, nargs="*", help="of the VQ-VAEs; none: without a VQ-VAE")
    parser.add_argument("--threats", nargs="+", choices=[*ThreatModel], help="default all, and the sweeps")
    parser.add_argument("--data", nargs="+", choices=[*SETTINGS], help="default both")
    parser.add_argument("--only", nargs="+", help="measure these purifiers' cells, for a second process; no page")
    given = parser.parse_args()
    for name in ["MNIST"] if given.quick else given.data or [*SETTINGS]:
        stem = f"image_transformations_{name}{'_paper' * given.paper}{'_quick' * given.quick}"
        page = Page("experiments.image_transformations", stem, given.run)
        bench = Bench(name, given, stem)
        found = bench.measured()
        if not given.only:
            bench.show(page, found)
            bench.keep()
            page.write(prose(__file__, name=name, stem=stem), [], name)


class Bench:
    """A data set with its trained networks and what is measured on them.

    Args:
        name: of the setting.
        given: the command's.
        stem: of the page, and of its records.
    """

    def __init__(self, name: str, given: argparse.Namespace, stem: str) -> None:
        self.name, self.quick, self.only = name, given.quick, given.only
        self.noises = () if given.quick else given.noises
        self.threats = [each for each in ThreatModel if each in (given.threats or ThreatModel)]
        self.setting: Setting = (PAPER if given.paper else SETTINGS)[name]
        run, root = Path(given.run) / f"{name}{'_paper' * given.paper}", given.root
        self.model = self._classifier(root, run / "training" if given.paper else CIFAR10_RUN)
        self.vqvaes = self._vqvaes(root, run)
        images = self.setting.images(root=root)
        images.setup()
        test, count = images.datasets["test"], given.images or (100 if given.quick else 1000)
        index = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:count].sort().values
        data = float_images(test.images[index]), test.labels[index], index
        self.count, self.classes = count, images.class_names
        self.on = [min(count, given.informed or each) for each in (self.setting.informed, self.setting.costly)]
        self.named, self.knowing = attacks(self.quick), attacks(self.quick, informed=True)
        self.square = Square(0.3, queries=100 if self.quick else 1000)
        self.purifiers = purifiers(self.setting, self.vqvaes)
        self.folder, self.records = run / f"{count}{'_quick' * self.quick}", RESULTS / f"{stem}.json"
        words = f"{self.setting}; {self.named}; {self.knowing}; {self.square}; {self.on} informed"
        self.settings = {self.folder.name: words}
        claim(self.folder, words)
        restore_records(self.records, self.settings, run)
        self.cells = Cells(self.folder, self.model, data, self.on, attack_draws=2 if self.quick else 8)

    def measured(self) -> Figures:
        """Accuracies, those of blind attacks first; rows in the order of the purifiers."""
        attacks = {"none": None, **self.named}
        found = {("none", each): {"blind": self.cells.undefended(each, how)} for each, how in attacks.items()}
        asked = {label: how for label, how in self.purifiers.items() if not self.only or label in self.only}
        for threat in self.threats:
            for label, purifier in asked.items():
                for attack, how in self._tried(purifier, threat).items():
                    row = found.setdefault((label, attack), {})
                    row[threat.value] = self.cells.purified(label, purifier, attack, how, threat)
        self.keep()
        order = ["none", *self.purifiers]
        return dict(sorted(found.items(), key=lambda row: order.index(row[0][0])))

    def show(self, page: Page, found: Figures) -> None:
        """Put tables and pictures on the page."""
        codes = {label: each for label, each in self.purifiers.items() if isinstance(each, VQVAE)}
        page.add(
            claims_table(self.name, self.count, found),
            main_table(self.name, self.count, self.on, found),
            networks_table(self.name, self.setting, self.model, codes, found),
        )
        page.add(self._fineness())
        x, y, index = (part[:SHOWN] for part in self.cells.data[0])
        seen = {"clean": x, "attacked": self.cells.blind("fgsm", self.named["fgsm"])[0][:SHOWN]}
        seen |= {each: purify(seen["attacked"], index) for each, purify in self.purifiers.items()}
        page.picture(strip(seen, y, self.model, "fgsm"), dpi=100)
        confused = {
            f"{label}, {attack}": self.cells.confusion(label, self.purifiers[label], attack, how)
            for label in CONFUSED
            if label in self.purifiers
            for attack, how in {"none": None, "fgsm": self.named["fgsm"]}.items()
        }
        page.picture(confusions(confused, self.classes), "confusion", dpi=100)
        page.add(mistakes_table(self.name, confused, self.classes))
        for parameter, values in sweeps(self.vqvaes).items() if len(self.threats) == len(ThreatModel) else ():
            page.add(self._sweep(parameter, values))

    def keep(self) -> None:
        """Write what is measured beside the page."""
        kept = {f"{self.folder.name}/{each.name}": json.loads(each.read_text()) for each in self.folder.glob("*.json")}
        write_records(self.records, self.settings, kept)

    def _tried(self, purifier: Purifier, threat: ThreatModel) -> dict[str, Attack | None]:
        if not PurifiedClassifier(purifier, self.model).applies(threat):
            return {}
        if threat is ThreatModel.BLACK_BOX:
            return {"square": self.square}
        return self.knowing if threat.informed else {"none": None, **self.named}

    def _classifier(self, root: str, folder: Path) -> ClassifierModule:
        how, images = self.setting.classifier, self.setting.images
        if not isinstance(how, str):
            return trained(self.name, root, folder, how)
        shape = {"in_channels": images.in_channels, "image_size": images.image_size}
        return ClassifierModule(weights=how, num_classes=images.num_classes, **shape).eval()

    def _vqvaes(self, root: str, run: Path) -> dict[str, Path]:
        noises = self.setting.noises if self.noises is None else self.noises
        vqvaes = {f"{noise:g}": run / f"vqvae_{noise:g}" / "exported" for noise in noises}
        for noise, folder in vqvaes.items():
            how = ("--model=VQVAEModule", f"--model.noise={noise}", f"--model.export={folder}", *self.setting.vqvae)
            fit(folder / "config.json", self.name, root, folder.parent / "training", how)
        return vqvaes

    def _fineness(self) -> Table:
        """Blind accuracy behind each purifier, for more and fewer budgets of fgsm."""
        found: dict[int, dict[str, list[float]]] = {}
        for budgets in BUDGETS:
            how = SearchedFGSM(budgets)
            name = "fgsm" if repr(how) == repr(self.named["fgsm"]) else f"fgsm of {budgets}"
            row = {"undefended": self.cells.undefended(name, how)}
            for label, purifier in self.purifiers.items():
                row[label] = self.cells.purified(label, purifier, name, how, ThreatModel.BLIND)
            found[budgets] = row
        return fineness_table(self.name, found)

    def _sweep(self, parameter: str, values: dict[str, Purifier]) -> Table:
        found, attack = {}, self.named[SWEPT]
        for value, purifier in values.items():
            label = f"{parameter} {value}"
            threat = ThreatModel.BPDA_EOT if purifier.randomised else ThreatModel.BPDA
            threat = ThreatModel.ADAPTIVE if purifier.differentiable else threat
            clean = self.cells.purified(label, purifier, "none", None, ThreatModel.BLIND)
            blind = self.cells.purified(label, purifier, SWEPT, attack, ThreatModel.BLIND)
            known = self.cells.purified(label, purifier, SWEPT, attack, threat, most=SWEPT_IMAGES)
            found[value] = [clean, blind, known]
        informed = [min(SWEPT_IMAGES, each) for each in self.on]
        return sweep_table(f"{self.name}: {parameter}", SWEPT, informed, found)


if __name__ == "__main__":
    command(main)
