"""The base of all scans of training images for poisoned ones."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from lightning_adv.attacks import leaves_no_trace
from lightning_adv.attacks.description import Described
from lightning_adv.detectors import LabelledImages
from lightning_adv.detectors.detector import labelled
from lightning_adv.detectors.features import activations
from lightning_adv.errors import InputError
from lightning_adv.inspectors.outliers import anomaly_indices
from lightning_adv.scans.report import ScannedClass, ScanReport

__all__ = ["ClassFinding", "FeatureScan", "Scan", "ScanEvidence", "far_above"]

Known = TypeVar("Known")
FEWEST = 4
"""Images of a class that can be split at all."""


@dataclass(frozen=True)
class ScanEvidence:
    """What the model made of training images: all that a verdict needs, away from model and images.

    Args:
        index: int64 [N], the images' numbers in their source.
        label: int64 [N].
        measures: float32 [N, F].

    Example:
        >>> parts = [ScanEvidence(torch.tensor([i]), torch.tensor([0]), torch.rand(1, 2)) for i in (5, 2)]
        >>> ScanEvidence.joined(parts).index.tolist()
        [2, 5]
    """

    index: Tensor
    label: Tensor
    measures: Tensor

    @classmethod
    def joined(cls, parts: Sequence["ScanEvidence"]) -> "ScanEvidence":
        """All parts as one on the CPU, sorted by the images' numbers."""
        whole = cls(*(torch.cat([vars(part)[name].cpu() for part in parts]) for name in vars(parts[0])))
        return whole.of(whole.index.argsort(stable=True))

    def of(self, rows: Tensor) -> "ScanEvidence":
        """That of the images at some positions, or where a mask is true."""
        return ScanEvidence(self.index[rows], self.label[rows], self.measures[rows])


@dataclass(frozen=True)
class ClassFinding:
    """What a scan finds in the n images of one class.

    Args:
        score: [n], the higher the more suspicious, comparable over classes.
        suspect: bool [n], poisoned if the class is.
        statistic: how clearly the class falls in two.

    Example:
        >>> ClassFinding(torch.rand(3), torch.tensor([True, False, False]), statistic=0.4).suspect.sum()
        tensor(1)
    """

    score: Tensor
    suspect: Tensor
    statistic: float


class Scan(Described, ABC, Generic[Known]):
    """Looks for poisoned images among those that a model was trained on, class by class.

    A subclass is its hyperparameters, :meth:`measure` (what the model makes of an image), :meth:`split` (the two parts
    of a class) and :meth:`verdicts` (which classes are poisoned). What holds for every scan: images are as the model
    was trained on them, with their labels, but for augmentation; the model, its modes and the global RNG are as before;
    the result depends neither on batches nor on the order of the images.

    Example:
        >>> class Brightness(Scan):
        ...     def measure(self, model, batch, known):
        ...         return batch.image.flatten(1).mean(dim=1, keepdim=True)
        ...
        ...     def split(self, measures):
        ...         return ClassFinding(measures[:, 0], measures[:, 0] > 0.9, float(measures.max()))
        ...
        ...     def verdicts(self, findings):
        ...         return [bool(each.suspect.any()) for each in findings]
        >>> images = torch.zeros(8, 1, 2, 2)
        >>> images[3] = 1
        >>> report = Brightness()(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), [(images, torch.arange(8) % 2)])
        >>> report.suspects.tolist(), report.flagged
        ([3], [1])
    """

    needs_clean: ClassVar[bool] = False
    """Whether it learns from a few clean images first."""

    in_flagged_classes: ClassVar[bool] = True
    """Whether suspects are those of the classes that are flagged alone."""

    statistic: ClassVar[str] = "statistic"
    """What is measured of a class, in words."""

    @abstractmethod
    def measure(self, model: nn.Module, batch: LabelledImages, known: Known) -> Tensor:
        """Measures [N, F] of a batch, of each image by itself; ``known`` is what :meth:`learn` gave."""

    @abstractmethod
    def split(self, measures: Tensor) -> ClassFinding:
        """What there is in the measures [n, F], float64, of the images of one class."""

    @abstractmethod
    def verdicts(self, findings: Sequence[ClassFinding]) -> Sequence[bool | None]:
        """Whether each class is poisoned; None where nothing can be said."""

    def learn(self, model: nn.Module, clean: Iterable[LabelledImages]) -> Known:
        """What the scan takes from clean images; nothing by default."""
        return None

    def check(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a model that does not suit, on a few images and before a run begins."""

    def __call__(self, model: nn.Module, images: Iterable, clean: Iterable | None = None) -> ScanReport:
        """Scan training images.

        Args:
            model: images in [0, 1] to logits, trained on these images.
            images: batches ``(image, label, ...)``, images in [0, 1] or uint8; a third entry of N integers are the
                images' numbers in their source, default their places.
            clean: batches of images that are known to be clean, for scans that need some.

        Raises:
            InputError: no images, batches of another kind, clean images that a scan needs and did not get.
        """
        return self.judge([self.examine(model, images, clean)])

    def examine(self, model: nn.Module, images: Iterable, clean: Iterable | None = None) -> ScanEvidence:
        """The part of one of several processes: arguments and errors as in calling; all get the same clean images."""
        name = type(self).__name__
        if self.needs_clean and clean is None:
            raise InputError(f"{name} learns from a few clean images first: give it some, clean=...")
        with leaves_no_trace(model), torch.no_grad():
            known = self.learn(model, labelled(model, clean, name) if self.needs_clean else ())
            parts = [
                ScanEvidence(batch.index.cpu(), batch.label.cpu(), self.measure(model, batch, known).float().cpu())
                for batch in labelled(model, images, name)
            ]
        return ScanEvidence.joined(parts)

    def judge(self, parts: Sequence[ScanEvidence]) -> ScanReport:
        """Put the parts of all processes together and look at every class."""
        evidence = ScanEvidence.joined(parts)
        finite = evidence.measures.isfinite().all(dim=1)
        warnings = (
            [] if finite.all() else [f"{int((~finite).sum())} of {len(finite)} images break the model: not judged"]
        )
        evidence = evidence.of(finite)
        labels = evidence.label.unique().tolist()
        rows = [(evidence.label == label).nonzero().flatten() for label in labels]
        findings = [self._split(evidence.measures[each].double()) for each in rows]
        judged = [position for position, each in enumerate(findings) if each.statistic == each.statistic]
        flags: list[bool | None] = [None] * len(labels)
        for position, flag in zip(judged, self.verdicts([findings[each] for each in judged]), strict=True):
            flags[position] = None if flag is None else bool(flag)  # not a peer's own kind, which JSON has not
        if None in flags:
            missing = [str(label) for label, flag in zip(labels, flags, strict=True) if flag is None]
            warnings.append(f"no verdict on class {', '.join(missing[:10])}: too few images, or too few other classes")
        score, suspect = torch.zeros(len(evidence.index)), torch.zeros(len(evidence.index), dtype=torch.bool)
        for own, found, flag in zip(rows, findings, flags, strict=True):
            score[own] = found.score.float()
            suspect[own] = found.suspect & bool(flag or not self.in_flagged_classes)
        classes = tuple(
            ScannedClass(label, len(own), int(suspect[own].sum()), float(found.statistic), flag)
            for label, own, found, flag in zip(labels, rows, findings, flags, strict=True)
        )
        return ScanReport(
            repr(self), evidence.index, evidence.label, score, suspect, classes, self.statistic, tuple(warnings)
        )

    def _split(self, measures: Tensor) -> ClassFinding:
        count = len(measures)
        if count < FEWEST:
            return ClassFinding(torch.zeros(count), torch.zeros(count, dtype=torch.bool), float("nan"))
        return self.split(measures)


class FeatureScan(Scan[Known]):
    """Base of the scans that look at the features of one layer.

    Args:
        layer: a name as in ``model.named_modules()``, whose output is looked at; None for the last hidden layer, the
            input of the last linear one.
    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer

    def check(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a layer that the model does not have."""
        self.features(model, x)

    def measure(self, model: nn.Module, batch: LabelledImages, known: Known) -> Tensor:
        """The features [N, D]."""
        return self.features(model, batch.image)

    def features(self, model: nn.Module, x: Tensor) -> Tensor:
        """Flattened features [N, D] of the layer, float32."""
        (found,), _ = activations(model, x, [self.layer])
        return found


def far_above(findings: Sequence[ClassFinding], threshold: float) -> list[bool | None]:
    """Classes whose statistic lies above the median by more than ``threshold`` times 1.4826 MAD.

    None for all of so few classes that nothing can be that far away.
    """
    if not findings:
        return []
    statistics = torch.tensor([each.statistic for each in findings], dtype=torch.double)
    above = statistics > statistics.quantile(0.5)
    indices = anomaly_indices(statistics.tolist())
    return [
        None if index != index else index > threshold and bool(high) for index, high in zip(indices, above, strict=True)
    ]
