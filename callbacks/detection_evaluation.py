"""Detectors against attacks at the end of an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import NO_CLASS, check_labels, logits_in_parts, predicted
from lightning_adv.attacks import Attack, SampleNoise
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.detectors import Detector, DetectorEnsemble, Evidence, Verdict
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.share import EvaluationBatch, Share, from_every_rank, training_loader
from lightning_adv.evaluation.substitutes import Substitutes
from lightning_adv.metrics.detection import auroc, auroc_interval, roc_points
from lightning_adv.results.detection import DetectionResult, DetectionRow, TransferRow

__all__ = ["DetectionEvaluation"]

NORMAL, WRONG = "normal", "wrongly_labelled"

CALIBRATION = 4
"""One clean training image in so many is kept from fitting, for thresholds."""


@dataclass(frozen=True)
class _Measured:
    """What this rank has measured.

    Args:
        judge: of the model's answers.
        found: by detector and kind of image what was found; no entry of a kind without an image.
        no_class, samples: images that the model gives no class, and all.
    """

    judge: Judge
    found: dict[str, dict[str, Evidence]]
    no_class: int
    samples: int


class DetectionEvaluation(EpochEndEvaluation[_Measured]):
    """How well detectors tell adversarial images from normal ones, attack by attack.

    Normal are the images that the model classifies correctly, adversarial the successes of each attack on them;
    images that the model gets wrong by itself are a kind of their own, ``wrongly_labelled``. Detectors are fitted on
    clean training images; thresholds that are not given are set on further ones. Half of the evaluated images, chosen
    by their number, serve to fit the regressions of ensembles and of the transfer matrix; all figures are of the other
    half.

    Logs ``{stage}/{detector}/mean_auroc`` and, for each attack, ``{stage}/{detector}/{attack}/auroc``, ``precision``,
    ``recall``, ``accuracy`` and ``mutations``.

    Args:
        detectors: name to detector.
        attacks: name to attack; a ``SubstituteAttack`` learns its substitute from the model first, beginning with
            calibration images of the datamodule.
        fit_samples: clean training images for fitting and thresholds, a seeded choice.
        false_positive_rate: that thresholds are set for, in [0, 1).
        **shared: see ``EpochEndEvaluation``; ``seed`` is that of both choices.

    Raises:
        InputError: no detector, no attack, a name that is taken, no training images, no normal or no adversarial one.

    Example:
        >>> from lightning_adv.attacks import FGSM
        >>> from lightning_adv.detectors import KernelDensity
        >>> DetectionEvaluation({"kd": KernelDensity()}, {"fgsm": FGSM(eps=0.3)}, max_samples=500).name
        'detection'
    """

    default_name: ClassVar[str] = "detection"

    def __init__(
        self,
        detectors: dict[str, Detector],
        attacks: dict[str, Attack],
        fit_samples: int = 2000,
        false_positive_rate: float = 0.05,
        **shared: Shared,
    ) -> None:
        super().__init__(**shared)
        if not detectors or not attacks:
            raise InputError("a detection evaluation needs at least one detector and one attack")
        if taken := {NORMAL, WRONG} & set(attacks):
            raise InputError(f"an attack cannot be named {', '.join(taken)}: that is a kind of clean images")
        self.require(2 * CALIBRATION, fit_samples=fit_samples)
        if not 0 <= false_positive_rate < 1:
            raise InputError(f"false_positive_rate must lie in [0, 1), got {false_positive_rate}")
        self.detectors, self.attacks = dict(detectors), dict(attacks)
        self.fit_samples, self.false_positive_rate = fit_samples, false_positive_rate
        self._substitutes = Substitutes(self.attacks)
        # What a detector learns from images changes it: its settings are those that it came with.
        self._sets_threshold = {name: each.threshold is None for name, each in detectors.items()}
        self.descriptions = {name: f"{each!r} fitted on up to {fit_samples} images" for name, each in detectors.items()}

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a model that a detector cannot look at, and training images that it cannot learn from."""
        first = images.first()
        for detector in self.detectors.values():
            detector.check(model, first.image, first.index)
        training = self._training_images(images.trainer)
        fitted = training.labels()[_chance(training.index) >= 1 / CALIBRATION]
        for detector in self.detectors.values():
            detector.check_labels(fitted, logits_in_parts(model, first.image).shape[1])
        self._substitutes.check(images.trainer)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Fit the detectors, attack this rank's images and look at them."""
        judge, no_class, samples = Judge(model, images, self.seed), 0, 0
        self._fit(trainer, model)
        self._substitutes.fit(trainer, model, judge.classes)
        found: dict[str, dict[str, list[Evidence]]] = {name: {} for name in self.detectors}
        for batch in self.track(trainer, images.balanced(), "detection"):
            check_labels(batch.label, judge.classes)
            said = predicted(judge(batch.image, batch.index))
            no_class, samples = no_class + int((said == NO_CLASS).sum()), samples + len(said)
            for kind, image, index in self._samples(judge, batch, said == batch.label):
                for name, detector in self.detectors.items() if len(image) else ():
                    found[name].setdefault(kind, []).append(detector.examine(model, image, index=index))
        joined = {name: {k: Evidence.joined(parts) for k, parts in kinds.items()} for name, kinds in found.items()}
        return _Measured(judge, joined, no_class, samples)

    def results(self, trainer: Trainer, measured: _Measured) -> DetectionResult:
        """Figures over all ranks."""
        ranks = from_every_rank(trainer, (measured.found, measured.no_class, measured.samples))
        names = (NORMAL, *self.attacks, WRONG)
        rows, transfer = [], []
        curves: dict[str, dict] = {}
        scores: dict[str, dict] = {}
        for name, detector in self.detectors.items():
            parts = {kind: [found[name][kind] for found, *_ in ranks if kind in found[name]] for kind in names}
            kinds = {kind: _Halves(Evidence.joined(found)) for kind, found in parts.items() if found}
            if NORMAL not in kinds or not len(kinds[NORMAL].held_out):
                raise InputError("no image among the held-out ones is classified correctly: nothing is normal")
            for attack in [kind for kind in kinds if kind != NORMAL and len(kinds[kind].held_out)]:
                weighed = detector.weighed(kinds[NORMAL].fitted, kinds[attack].fitted)
                if weighed is None:
                    continue
                normal, adversarial = (weighed.judge(kinds[kind].held_out) for kind in (NORMAL, attack))
                rows.append(_row(name, attack, normal, adversarial))
                curves.setdefault(attack, {})[name] = roc_points(normal.score, adversarial.score)
                known = [each.score[~each.score.isnan()].tolist() for each in (normal, adversarial)]
                scores.setdefault(name, {NORMAL: known[0]})[attack] = known[1]
            transfer += _transfer(name, detector, kinds)
        if not rows:
            raise InputError("no attack succeeded on any of these images: there is nothing to detect; raise its budget")
        missing = [attack for attack in self.attacks if attack not in curves]
        return DetectionResult(
            title="Detection",
            warnings=[
                *measured.judge.notes,
                *nan_warnings(sum(no_class for _, no_class, _ in ranks), sum(samples for *_, samples in ranks)),
                *(f"{attack} has too few successes to be detected" for attack in missing),
                *(f"{name}: {text}" for name, detector in self.detectors.items() for text in detector.doubts),
            ],
            rows=rows,
            descriptions=self.descriptions,
            attack_descriptions={name: repr(attack) for name, attack in self.attacks.items()},
            transfer=transfer,
            curves=curves,
            scores=scores,
        )

    def _samples(self, judge: Judge, batch: EvaluationBatch, right: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Kind, images and numbers of what a batch, of which the model gets ``right`` [N] right, gives to look at."""
        yield NORMAL, batch.image[right], batch.index[right]
        yield WRONG, batch.image[~right], batch.index[~right]
        rows = right.nonzero().flatten()
        label, index = batch.label[rows], batch.index[rows]
        for name, attack in self.attacks.items() if len(rows) else ():
            result = attack.run(judge.model, batch.image[rows], label, index=index)
            fooled = judge.verdict(result, batch, rows, attack.reaches).success
            yield name, result.images[fooled], index[fooled]

    def _training_images(self, trainer: Trainer) -> Share:
        """Those that detectors are fitted on and those that thresholds are set on; the same on every rank."""
        loader = training_loader(trainer, "DetectionEvaluation")
        return Share(trainer, loader, self.fit_samples, self.batch_size, self.seed).on_every_rank()

    def _fit(self, trainer: Trainer, model: LightningModule) -> None:
        """Fit and calibrate on the same training images on every rank."""
        fitted, kept = [], []
        for batch in self._training_images(trainer):
            chosen = _chance(batch.index) < 1 / CALIBRATION
            for part, rows in ((fitted, ~chosen), (kept, chosen)):
                if rows.any():
                    part.append((batch.image[rows], batch.label[rows], batch.index[rows]))
        for name, detector in self.detectors.items():
            detector.fit(model, fitted)
            if self._sets_threshold[name]:
                detector.calibrate(model, kept, self.false_positive_rate)


class _Halves:
    """Samples to fit regressions on and held-out ones, by their number: an image and its adversarial ones together."""

    def __init__(self, evidence: Evidence) -> None:
        fitted = _chance(evidence.index) < 0.5
        self.fitted, self.held_out = evidence.of(fitted), evidence.of(~fitted)


def _chance(index: Tensor) -> Tensor:
    """U[0, 1) for each sample number [N], always the same."""
    return SampleNoise(0, index).uniform(torch.zeros(len(index), 1, device=index.device))[:, 0]


def _row(detector: str, attack: str, normal: Verdict, adversarial: Verdict) -> DetectionRow:
    area, counts = auroc(normal.score, adversarial.score), (len(normal.score), len(adversarial.score))
    tested = normal.mutations is not None
    return DetectionRow(
        detector=detector,
        attack=attack,
        normal=counts[0],
        adversarial=counts[1],
        false_positives=int(normal.suspicious.sum()),
        true_positives=int(adversarial.suspicious.sum()),
        auroc=area,
        interval=auroc_interval(area, *counts),
        normal_score=normal.score.double().nanmean().item(),
        adversarial_score=adversarial.score.double().nanmean().item(),
        mutations=torch.cat([normal.mutations, adversarial.mutations]).double().mean().item() if tested else None,
        undecided=int(normal.undecided.sum() + adversarial.undecided.sum()) if tested else None,
    )


def _transfer(name: str, detector: Detector, kinds: dict[str, _Halves]) -> list[TransferRow]:
    """A regression on the detector's measures, fitted on one attack and asked about each."""
    rows = []
    for source in [kind for kind in kinds if kind not in (NORMAL, WRONG)]:
        weighed = DetectorEnsemble({name: detector}).weighed(kinds[NORMAL].fitted, kinds[source].fitted)
        if weighed is None:
            continue
        said = {kind: weighed.judge(halves.held_out) for kind, halves in kinds.items() if len(halves.held_out)}
        normal = said.pop(NORMAL)
        alarms = normal.suspicious.double().mean()
        areas = {kind: auroc(normal.score, each.score) for kind, each in said.items()}
        accuracies = {k: float((each.suspicious.double().mean() + 1 - alarms) / 2) for k, each in said.items()}
        rows.append(TransferRow(name, source, areas, accuracies))
    return rows
