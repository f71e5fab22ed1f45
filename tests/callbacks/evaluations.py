"""Every evaluation of the package, made small: what the laws of evaluations are asked of, and what they presume."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.attacks import EOT, FGSM, PhysicalWorld
from lightning_adv.backdoors import Trigger
from lightning_adv.callbacks import (
    AttackEvaluation,
    BackdoorEvaluation,
    BackdoorInspection,
    BackdoorMitigation,
    CalibrationEvaluation,
    DetectionEvaluation,
    FoolingImages,
    GeneratedImages,
    PhysicalEvaluation,
    PoisonScan,
    PurificationEvaluation,
    TransferEvaluation,
)
from lightning_adv.callbacks.evaluation import EpochEndEvaluation
from lightning_adv.detectors import LabelChangeRate, UniformMutation
from lightning_adv.fooling import FoolingEvolution, FoolingGradient
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.mitigations import FinePruning, Mitigation, Repair
from lightning_adv.modules import DiffusionModule
from lightning_adv.purifiers import BitDepth, TotalVariation
from lightning_adv.results.result import EvaluationResult
from lightning_adv.scans import ActivationClustering, SpectralSignatures
from tests.wild.models import Wrapped, images, labels

COUNT = 24
X = images(COUNT)
Y = labels(X)

SEARCH = {"steps": 8, "batch_size": 8, "images_per_step": 8, "init_cost": 0.05, "success_threshold": 0.3}
STILL = {"perspective": 0, "framing": 0, "resolution": 1, "blur": 0, "contrast": 0, "brightness": 0, "noise": 0.02}
Make = Callable[..., EpochEndEvaluation]
_OPEN: list[TemporaryDirectory] = []
"""Folders that are removed when this process ends."""


class Corner(Trigger):
    """Mixes white into the last corner."""

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def apply(self, x: Tensor) -> Tensor:
        white = torch.ones(2, 2, dtype=x.dtype, device=x.device)
        x = x.clone()
        x[:, :, -2:, -2:] = torch.lerp(x[:, :, -2:, -2:], white, self.strength)
        return x


class Untouched(Mitigation):
    """Repairs nothing."""

    def repair(self, model: nn.Module, images: object, held_out: object) -> Repair:
        return Repair()


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, and what may be asked of it.

    Args:
        make: takes the shared arguments.
        idle: the same, with attacks that do nothing; None where there would be nothing to measure.
        counts: of a result, pairs of clean counts and counts under attack, which attacks that do nothing leave equal.
        trains: whether it runs in ``fit``.
        one_image: whether one image is enough.
        defaults: shared arguments whose default is another than the base's.
    """

    make: Make
    idle: Make | None = None
    counts: Callable[[EvaluationResult], list[tuple]] = lambda result: []
    trains: bool = True
    one_image: bool = True
    defaults: tuple[str, ...] = ()


def attacks(eps: float = 0.05, **shared: object) -> AttackEvaluation:
    return AttackEvaluation({"fgsm": FGSM(eps)}, eps_sweep=[0.02] if eps else [], **shared)


def calibration(eps: float = 0.05, **shared: object) -> CalibrationEvaluation:
    return CalibrationEvaluation({"fgsm": FGSM(eps)}, **shared)


def backdoor(strength: float = 1.0, **shared: object) -> BackdoorEvaluation:
    return BackdoorEvaluation(Corner(strength), target=0, source_classes=[1, 3], **shared)


def mitigation(repair: Mitigation | None = None, **shared: object) -> BackdoorMitigation:
    return BackdoorMitigation(repair or FinePruning(epochs=0), Corner(), target=0, **shared)


def detection(**shared: object) -> DetectionEvaluation:
    detector = LabelChangeRate(UniformMutation(0.2), mutations=4, max_mutations=8)
    return DetectionEvaluation({"lcr": detector}, {"fgsm": FGSM(0.2)}, **shared)


def physical(eps: float = 0.05, **shared: object) -> PhysicalEvaluation:
    attacks = {"fgsm": FGSM(eps), "eot": EOT(FGSM(eps), samples=2)}
    return PhysicalEvaluation(attacks, world=PhysicalWorld(quality=None, **STILL), **shared)


def purification(eps: float = 0.05, **shared: object) -> PurificationEvaluation:
    purifiers = {"bits": BitDepth(8), "tv": TotalVariation(steps=2)}
    return PurificationEvaluation(purifiers, {"fgsm": FGSM(eps)}, draws=2, attack_draws=2, **shared)


def transfer(eps: float = 0.05, **shared: object) -> TransferEvaluation:
    return TransferEvaluation({"other": Wrapped()}, {"fgsm": FGSM(eps)}, **shared)


def inspection(**shared: object) -> BackdoorInspection:
    return BackdoorInspection({"cleanse": NeuralCleanse(**SEARCH, allow_missing_classes=True)}, **shared)


def fooling(**shared: object) -> FoolingImages:
    return FoolingImages(
        {"gradient": FoolingGradient(steps=2), "direct": FoolingEvolution(generations=2, population=4)}, **shared
    )


@cache
def _diffusion_model() -> Path:
    """A folder with a network of random weights that knows the images' classes; one for all ranks of a test."""
    _OPEN.append(TemporaryDirectory())
    folder = Path.cwd() if "RANK" in os.environ else Path(_OPEN[-1].name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"in_channels": X.shape[1], "image_size": tuple(X.shape[2:]), "num_classes": int(Y.max()) + 1}
        DiffusionModule((8, 8), conditional=True, **shape).save_pretrained(str(folder))
    return folder


def generated(**shared: object) -> GeneratedImages:
    folder = _diffusion_model()
    return GeneratedImages(str(folder), str(folder / "made"), per_class=2, steps=2, guidance=2.0, piece=3, **shared)


def scan(**shared: object) -> PoisonScan:
    return PoisonScan({"clusters": ActivationClustering(), "spectral": SpectralSignatures()}, budget=0.2, **shared)


def without_budget(make: Make) -> Make:
    return lambda **shared: make(0.0, **shared)


EVALUATIONS: dict[str, Evaluation] = {
    "attacks": Evaluation(
        attacks,
        without_budget(attacks),
        lambda result: [
            (result.clean_correct, result.worst_case_correct),
            *((result.clean_correct, row.robust_correct) for row in result.attacks),
        ],
    ),
    "backdoor": Evaluation(
        backdoor,
        without_budget(backdoor),
        lambda result: [
            (result.per_class_clean_correct, result.per_class_triggered_correct),
            (result.per_class_led_clean, result.per_class_led),
        ],
    ),
    "calibration": Evaluation(
        calibration,
        without_budget(calibration),
        lambda result: [(result.rows[0].correct, row.correct) for row in result.rows],
    ),
    "inspection": Evaluation(inspection, inspection, one_image=False, defaults=("max_samples",)),
    "mitigation": Evaluation(
        mitigation,
        lambda **shared: mitigation(Untouched(), **shared),
        lambda result: [tuple(result.correct), tuple(result.led)],
        trains=False,
    ),
    "detection": Evaluation(detection, one_image=False),
    "fooling": Evaluation(fooling, fooling, defaults=("every_n_epochs",)),
    "generated": Evaluation(generated, generated, defaults=("every_n_epochs",)),
    "physical": Evaluation(
        physical,
        without_budget(physical),
        lambda result: [(0, row.destruction.fooled) for row in result.rows],
        defaults=("max_samples",),
    ),
    "purification": Evaluation(
        purification,
        without_budget(purification),
        lambda result: [
            (result.find(name, "none", "none").correct, result.find(name, "fgsm", threat).correct)
            for name, threat in (("none", "none"), ("bits", "blind"))
        ],
        defaults=("max_samples",),
    ),
    "scan": Evaluation(scan, scan, one_image=False, defaults=("every_n_epochs",)),
    "transfer": Evaluation(
        transfer,
        without_budget(transfer),
        lambda result: [(row.clean_correct, row.robust_correct) for row in result.rows],
    ),
}


class Module(pl.LightningModule):
    """A stranger's module around a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> object:
        return self.model(x)

    def training_step(self, batch: tuple, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        pass

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class Normalised(Wrapped):
    """The net behind a BatchNorm whose statistics are almost those of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.norm.running_mean.fill_(0.5)
        self.norm.running_var.fill_(0.25**2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.norm(x))


class Data(pl.LightningDataModule):
    """The same images to learn from, in any order, and to be judged on."""

    def __init__(self, x: Tensor = X, y: Tensor = Y) -> None:
        super().__init__()
        self.known = TensorDataset(x, y)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.known, batch_size=8, shuffle=True)

    def _loader(self) -> DataLoader:
        return DataLoader(self.known, batch_size=8)

    val_dataloader = test_dataloader = calibration_dataloader = _loader
