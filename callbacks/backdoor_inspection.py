"""Inspections for backdoors at the end of an epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import nn

from lightning_adv.backdoors import save_triggers
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.errors import InputError
from lightning_adv.evaluation.share import Share, from_every_rank
from lightning_adv.inspectors import InspectionReport, Inspector, Search, second_look
from lightning_adv.inspectors.suspect import Suspect
from lightning_adv.names import file_name
from lightning_adv.results.inspection import InspectionResult

__all__ = ["BackdoorInspection"]


_Searches = dict[str, Search]
_Measured = tuple[int, list[_Searches]]
"""How many images there were; what each inspector found on this rank, in the model and then in each reference."""


class BackdoorInspection(EpochEndEvaluation[_Measured]):
    """Searches the model for backdoors with any number of inspectors.

    Every rank sees the same clean images; the classes are shared out to the ranks (r, r + W, ...) and put together
    once. Logs ``{stage}/{inspector}/anomaly_index/class_{k}``, ``norm/class_{k}`` (``margin`` or ``share``, where those
    are judged), ``p_value``, ``flagged_classes``, masks and patterns as pictures, and the course of the index over the
    epochs. After fit, validate and test the triggers that were found are in ``triggers.safetensors`` in the run's
    folder (those of a second inspector in ``triggers_{inspector}.safetensors``, with the callback's name before that of
    the inspector where it has been given one), ready for ``MaskedPattern``; classes without a successful trigger are
    not, nor what an inspector finds that judges no norms.

    With ``references`` the inspectors also search networks that you trained on clean images of your own, and the report
    leads with what stands out beside them: of one network's norms alone nobody can tell a class that is small by nature
    from a backdoor. Logs ``{stage}/second_look/index/class_{k}``, ``p_value`` and ``flagged_classes``.

    Args:
        inspectors: name to inspector.
        max_samples: clean images, a seeded choice; None for all.
        references: checkpoints of ``train.py``, at least two, of the model's kind, trained on other seeds of your data.
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: no inspector, an unknown kind of batch, a forward that does not give logits, labels out of range; a
            single reference, one that is no checkpoint, or of other classes.

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
        references: Sequence[str] = (),
        **shared: Shared,
    ) -> None:
        super().__init__(max_samples=max_samples, **shared)
        if len(references) == 1:
            raise InputError("a second look compares with at least two references: train another on clean images")
        if not inspectors:
            raise InputError("inspectors is empty: name one, e.g. inspectors: {neural_cleanse: NeuralCleanse}")
        self.inspectors, self.references = dict(inspectors), tuple(references)

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a forward that does not give logits, and a class without a clean image; say what is known before."""
        classes = Suspect(model).classes(images.first().image)
        label = images.labels()
        for name, inspector in self.inspectors.items():
            for text in inspector.check(label, classes):
                rank_zero_warn(f"{name}: {text}")
        for path in self.references:
            theirs = Suspect(_reference(path, model)).classes(images.first().image)
            if theirs != classes:
                raise InputError(f"reference {path} has {theirs} classes, and the model has {classes}")

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Search for the triggers of this rank's classes, in the model and in the references."""
        clean = [(batch.image, batch.label) for batch in images.on_every_rank()]
        works = [(path, name) for path in (None, *self.references) for name in self.inspectors]
        found: list[_Searches] = [{} for _ in (None, *self.references)]
        for number, (path, name) in enumerate(self.track(trainer, works, " + ".join(self.inspectors))):
            suspect = model if path is None else _reference(path, model)
            search = self.inspectors[name].search(suspect, clean, trainer.global_rank, trainer.world_size)
            found[number // len(self.inspectors)][name] = search
        return images.total, found

    def results(self, trainer: Trainer, measured: _Measured) -> InspectionResult:
        """The reports over all ranks' classes."""
        samples, found = measured
        parts = from_every_rank(trainer, found)
        reports, *references = (
            {
                name: inspector.judge([part[place][name] for part in parts])
                for name, inspector in self.inspectors.items()
            }
            for place in range(len(found))
        )
        return InspectionResult(
            title="Search for backdoors",
            reports=reports,
            samples=samples,
            class_names=self.class_names(trainer, max(len(report.labels) for report in reports.values())),
            history=self.history,
            key_prefix=self.key_prefix,
            second=second_look(reports, references) if references else None,
        )

    def write(self, trainer: Trainer, model: LightningModule, folder: Path) -> None:
        """Save the triggers of the last inspection."""
        triggers = {name: report for name, report in self.result.reports.items() if not report.large}
        for number, (inspector, report) in enumerate(triggers.items()):
            whose = [self.key_prefix.rstrip("/"), inspector if number else ""]
            stem = "_".join(["triggers", *(file_name(part) for part in whose if part)])
            _save(report, folder / f"{stem}.safetensors")


def _reference(path: str, model: LightningModule) -> nn.Module:
    """The classifier of a checkpoint, on the model's device."""
    from lightning_adv.modules import load_classifier

    try:
        return load_classifier(path).to(model.device)
    except InputError as error:
        raise InputError(f"a reference of BackdoorInspection: {error}") from error


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
