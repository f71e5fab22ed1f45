"""Inspections for backdoors at the end of an epoch."""

from pathlib import Path
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn

from lightning_adv.backdoors import save_triggers
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.errors import InputError
from lightning_adv.evaluation.share import Share, from_every_rank
from lightning_adv.inspectors import InspectionReport, Inspector, Search
from lightning_adv.inspectors.suspect import Suspect
from lightning_adv.names import file_name
from lightning_adv.results.inspection import InspectionResult

__all__ = ["BackdoorInspection"]


_Measured = tuple[int, dict[str, Search]]
"""How many images there were, and what each inspector found on this rank."""


class BackdoorInspection(EpochEndEvaluation[_Measured]):
    """Searches the model for backdoors with any number of inspectors.

    Every rank sees the same clean images; the classes are shared out to the ranks (r, r + W, ...) and put together
    once. Logs ``{stage}/{inspector}/anomaly_index/class_{k}``, ``norm/class_{k}`` (``margin`` or ``share``, where those
    are judged), ``p_value``, ``flagged_classes``, masks and patterns as pictures, and the course of the index over the
    epochs. After fit, validate and test the triggers that were found are in ``triggers.safetensors`` in the run's
    folder (those of a second inspector in ``triggers_{inspector}.safetensors``, with the callback's name before that of
    the inspector where it has been given one), ready for ``MaskedPattern``; classes without a successful trigger are
    not, nor what an inspector finds that judges no norms.

    Args:
        inspectors: name to inspector.
        max_samples: clean images, a seeded choice; None for all.
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: no inspector, an unknown kind of batch, a forward that does not give logits, labels out of range.

    Example:
        >>> from lightning_adv.inspectors import NeuralCleanse
        >>> BackdoorInspection({"neural_cleanse": NeuralCleanse(steps=100)}).name
        'inspection'
    """

    default_name: ClassVar[str] = "inspection"

    def __init__(
        self,
        inspectors: dict[str, Inspector],
        max_samples: int | None = 1000,
        **shared: Shared,
    ) -> None:
        super().__init__(max_samples=max_samples, **shared)
        if not inspectors:
            raise InputError("inspectors is empty: name one, e.g. inspectors: {neural_cleanse: NeuralCleanse}")
        self.inspectors = dict(inspectors)

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a forward that does not give logits, and a class without a clean image; say what is known before."""
        classes = Suspect(model).classes(images.first().image)
        label = images.labels()
        for name, inspector in self.inspectors.items():
            for text in inspector.check(label, classes):
                rank_zero_warn(f"{name}: {text}")

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Search for the triggers of this rank's classes."""
        clean = [(batch.image, batch.label) for batch in images.on_every_rank()]
        found = {
            name: self.inspectors[name].search(model, clean, trainer.global_rank, trainer.world_size)
            for name in self.track(trainer, list(self.inspectors), " + ".join(self.inspectors))
        }
        return images.total, found

    def results(self, trainer: Trainer, measured: _Measured) -> InspectionResult:
        """The reports over all ranks' classes."""
        samples, found = measured
        parts = from_every_rank(trainer, found)
        reports = {name: inspector.judge([part[name] for part in parts]) for name, inspector in self.inspectors.items()}
        return InspectionResult(
            title="Search for backdoors",
            reports=reports,
            samples=samples,
            class_names=self.class_names(trainer, max(len(report.labels) for report in reports.values())),
            history=self.history,
            key_prefix=self.key_prefix,
        )

    def write(self, trainer: Trainer, model: LightningModule, folder: Path) -> None:
        """Save the triggers of the last inspection."""
        triggers = {name: report for name, report in self.result.reports.items() if not report.large}
        for number, (inspector, report) in enumerate(triggers.items()):
            whose = [self.key_prefix.rstrip("/"), inspector if number else ""]
            stem = "_".join(["triggers", *(file_name(part) for part in whose if part)])
            _save(report, folder / f"{stem}.safetensors")


def _save(report: InspectionReport, path: Path) -> None:
    found = [position for position, trigger in enumerate(report.triggers) if trigger.found]
    if not found:
        rank_zero_warn(f"{path} is not written: {report.inspector} found no trigger for any class")
        return
    notes = {
        "inspector": report.inspector,
        "norms": " ".join(f"{report.norms[position]:.6g}" for position in found),
        "anomaly_index": " ".join(f"{report.outliers.index[position]:.6g}" for position in found),
    }
    if report.flagged is not None:
        notes["flagged"] = " ".join(map(str, report.flagged))
    labels = torch.tensor([report.labels[position] for position in found])
    save_triggers(path, report.masks[found], report.patterns[found], labels, notes)
