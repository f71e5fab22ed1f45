"""Scans of the training images for poisoned ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.asking import check_labels
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.data.facts import DataFacts
from lightning_adv.data.roles import numbers_of, poisoned_and_cover
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.share import Share, evaluation_loader, from_every_rank, training_loader
from lightning_adv.names import file_name
from lightning_adv.results.poison_scan import PoisonScanResult
from lightning_adv.scans import Scan, ScanEvidence, ScanReport
from lightning_adv.scans.scan_file import save_scan

__all__ = ["PoisonScan"]

RANDOMISED = "the model answers differently to the same images: the scores are those of a single draw"


@dataclass(frozen=True)
class _Measured:
    """The images, who says what they are, and what each scan found on this rank, None where it has no image."""

    images: Share
    judge: Judge
    found: dict[str, ScanEvidence | None]


class PoisonScan(EpochEndEvaluation[_Measured]):
    """Looks for poisoned images among those that a model was trained on, after the last epoch, in validate and test.

    The images are those of the training loader, as they are trained on, but for augmentation. Where the datamodule
    knows which of them are poisoned (``PoisonedDataModule``), the scans are measured by it; they are not told.

    Logs ``{stage}/{scan}/suspect_share`` and ``flagged_classes``; against a plan also ``recall``, ``false_alarm_rate``
    (of images that are neither poisoned nor cover images), ``precision_at_budget`` and ``auroc``. In the run's folder,
    ``scan_{scan}.safetensors`` has number, label, score and verdict of every image, for ``CleansedDataModule``.

    Args:
        scans: name to scan.
        budget: share of the images that somebody looks at, those of highest score; in (0, 1].
        clean_samples: most clean images for the scans that need some: of the datamodule's calibration images, else of
            the validation or test images; a seeded choice.
        examples: images shown for each scan, those of highest score.
        every_n_epochs: also after so many epochs; None for the last alone.
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: no scan, a budget outside (0, 1]; before training starts: no training images, a model that a scan
            cannot look into.

    Example:
        >>> from lightning_adv.scans import SpectralSignatures
        >>> PoisonScan({"spectral": SpectralSignatures()}, budget=0.05).name
        'scan'
    """

    default_name: ClassVar[str] = "scan"

    def __init__(
        self,
        scans: dict[str, Scan],
        budget: float = 0.01,
        clean_samples: int = 500,
        examples: int = 8,
        every_n_epochs: int | None = None,
        **shared: Shared,
    ) -> None:
        super().__init__(every_n_epochs=1 if every_n_epochs is None else every_n_epochs, **shared)
        if not scans:
            raise InputError("scans is empty: name one, e.g. scans: {spectral: SpectralSignatures}")
        if not 0 < budget <= 1:
            raise InputError(f"budget must be a share of the training images in (0, 1], got {budget}")
        self.require(1, clean_samples=clean_samples)
        self.require(0, examples=examples)
        self.scans, self.budget, self.clean_samples, self.examples = dict(scans), budget, clean_samples, examples
        self.only_last = every_n_epochs is None

    def images(self, trainer: Trainer, stage: Literal["val", "test"]) -> Share:
        """The training images."""
        return Share(trainer, training_loader(trainer, "PoisonScan"), self.max_samples, self.batch_size, self.seed)

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a model that a scan cannot look into, and clean images that are not there."""
        first = images.first().image.float()
        for scan in self.scans.values():
            scan.check(model, first)
            if scan.needs_clean:
                self._clean(images.trainer).first()

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Look at this rank's training images."""
        judge = Judge(model, images, self.seed)
        needed = any(scan.needs_clean for scan in self.scans.values())
        clean = [(batch.image, batch.label) for batch in self._clean(trainer).on_every_rank()] if needed else None
        found = {
            name: self.scans[name].examine(model, _numbered(images, judge.classes), clean) if len(images) else None
            for name in self.track(trainer, list(self.scans), self.name)
        }
        return _Measured(images, judge, found)

    def results(self, trainer: Trainer, measured: _Measured) -> PoisonScanResult:
        """The reports on all ranks' images, beside what the datamodule knows."""
        ranks = from_every_rank(trainer, measured.found)
        reports = {
            name: scan.judge([found[name] for found in ranks if found[name] is not None])
            for name, scan in self.scans.items()
        }
        dataset, plan = measured.images.loader.dataset, DataFacts(trainer.datamodule).plan
        poisoned, cover = (None, None) if plan is None else poisoned_and_cover(dataset, plan)
        return PoisonScanResult(
            title="Scan of the training images",
            reports=reports,
            class_names=self.class_names(trainer, measured.judge.classes),
            budget=self.budget,
            poisoned=poisoned,
            cover=cover,
            shown={name: self._worst(measured.images, report) for name, report in reports.items()},
            history=self.history,
            success=_courses_beside(trainer, self, "attack_success_rate"),
            indices=_courses_beside(trainer, self, f"anomaly_index/class_{DataFacts(trainer.datamodule).target}"),
            key_prefix=self.key_prefix,
            warnings=[
                *([RANDOMISED] if measured.judge.draws > 1 else []),
                *(f"{name}: {text}" for name, report in reports.items() for text in report.warnings),
            ],
        )

    def write(self, trainer: Trainer, model: LightningModule, folder: Path) -> None:
        """Save what each scan says of every image."""
        for name, report in self.result.reports.items():
            whose = [each for each in (self.key_prefix.rstrip("/"), name) if each]
            save_scan(folder / f"{'_'.join(['scan', *map(file_name, whose)])}.safetensors", report)

    def _worst(self, images: Share, report: ScanReport) -> Tensor:
        """The images of highest score [n, C, H, W], on every rank."""
        numbers = report.index[report.worst(self.examples)]
        if not len(numbers):
            return torch.zeros(0, *images.first().image.shape[1:])
        every = numbers_of(images.loader.dataset)
        order = every.argsort()
        positions = order[torch.searchsorted(every[order], numbers)]
        return images.at(positions).image.float().cpu()

    def _clean(self, trainer: Trainer) -> Share:
        make = DataFacts(trainer.datamodule).calibration_dataloader
        loader = evaluation_loader(trainer, "test" if trainer.testing else "val") if make is None else make()
        if not isinstance(loader, DataLoader):
            raise InputError("PoisonScan needs clean images: a datamodule with a calibration_dataloader of one loader")
        return Share(trainer, loader, self.clean_samples, self.batch_size, self.seed)

    def _is_due(self, trainer: Trainer) -> bool:
        return self._is_last(trainer) if self.only_last else super()._is_due(trainer)


def _courses_beside(trainer: Trainer, own: PoisonScan, ending: str) -> dict[str, list[list[float]]]:
    """Name to points of the scalars with such a key that other evaluations have logged in fit.

    The points are theirs: those of an epoch whose evaluation comes after this one are there when the curve is drawn.
    """
    others = [each for each in trainer.callbacks if isinstance(each, EpochEndEvaluation) and each is not own]
    return {
        key.removeprefix("val/").replace("_", " "): points
        for each in others
        for key, points in each.history.items()
        if key.startswith("val/") and key.endswith(ending)
    }


def _numbered(images: Share, classes: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Images, labels and numbers in their source, loaded anew for each scan: there may be many."""
    numbers = numbers_of(images.loader.dataset)
    for batch in images:
        check_labels(batch.label, classes)
        yield batch.image, batch.label, numbers[batch.index.cpu()]
