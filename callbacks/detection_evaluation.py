"""Detectors against attacks at the end of an epoch."""

from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.asking import NO_CLASS, predicted
from lightning_adv.attacks import Attack, SampleNoise
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.detectors import Detector, DetectorEnsemble, LabelChangeRate, LogisticRegression
from lightning_adv.detectors.detector import above
from lightning_adv.errors import InputError
from lightning_adv.evaluation.logits import clean_logits, nan_warnings
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.evaluation.substitutes import Substitutes
from lightning_adv.metrics.detection import SampleTable, auroc, auroc_interval, roc_points
from lightning_adv.results.detection import DetectionResult, DetectionRow, TransferRow

__all__ = ["DetectionEvaluation"]

NORMAL, WRONG = "normal", "wrongly_labelled"
EXTRA = 4
"""Columns before the measures: number of the sample, suspicious (NaN: not judged yet), mutations, undecided."""

CALIBRATION = 4
"""One clean training image in so many is kept from fitting, for thresholds."""

FEWEST = 5
"""Samples of each kind that a regression is fitted on."""


_Measured = tuple[dict[str, dict[str, SampleTable]], Tensor]
"""Samples by detector and kind; [2] images without a class, and all."""


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
        self._sets_threshold = {name: each.threshold is None for name, each in detectors.items()}

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a model that a detector cannot look at, and training images that it cannot learn from."""
        first = images.first()
        for detector in self.detectors.values():
            detector.check(model, first.image, first.index)
        training = self._training_images(images.trainer)
        fitted = training.labels()[_chance(training.index) >= 1 / CALIBRATION]
        for detector in self.detectors.values():
            detector.check_labels(fitted, clean_logits(model, first.image).shape[1])
        self._substitutes.check(images.trainer)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Fit the detectors, attack this rank's images and measure them."""
        self._fit(trainer, model)
        first = images.first()
        self._substitutes.fit(trainer, model, clean_logits(model, first.image).shape[1])
        every: dict[str, dict[str, SampleTable]] = {}
        for name, detector in self.detectors.items():
            width = EXTRA + detector.measures(model, first.image, index=first.index).shape[1]
            tables = {kind: SampleTable(width).to(model.device) for kind in (NORMAL, *self.attacks, WRONG)}
            for table in tables.values():  # a rank without such samples takes part in gathering them
                table.update(torch.zeros(0, width, device=model.device))
            every[name] = tables
        lost = torch.zeros(2, dtype=torch.long, device=model.device)
        for batch in self.track(trainer, images, "detection"):
            said = predicted(clean_logits(model, batch.image))
            correct = said == batch.label
            lost += torch.stack([(said == NO_CLASS).sum(), torch.ones_like(said).sum()])
            self._measure(every, NORMAL, model, batch.image[correct], batch.index[correct])
            self._measure(every, WRONG, model, batch.image[~correct], batch.index[~correct])
            if correct.any():
                right = EvaluationBatch(batch.image[correct], batch.label[correct], batch.index[correct])
                for name, attack in self.attacks.items():
                    found = attack.run(model, right.image, right.label, index=right.index)
                    self._measure(every, name, model, found.images[found.success], right.index[found.success])
        return every, lost

    def results(self, trainer: Trainer, measured: _Measured) -> DetectionResult:
        """Figures over all ranks."""
        every, lost = measured
        rows, transfer = [], []
        curves: dict[str, dict] = {}
        scores: dict[str, dict] = {}
        for name, detector in self.detectors.items():
            kinds = {kind: table.compute().cpu() for kind, table in every[name].items()}
            parts = {kind: _halves(samples) for kind, samples in kinds.items()}
            if not len(parts[NORMAL][1]):
                raise InputError("no image among the held-out ones is classified correctly: nothing is normal")
            for attack in (*self.attacks, WRONG):
                if not len(parts[attack][1]):
                    continue
                judged = _judged(detector, parts[NORMAL], parts[attack])
                if judged is None:
                    continue
                rows.append(_row(name, attack, *judged))
                normal, adversarial = (samples[:, -1] for samples in judged)
                curves.setdefault(attack, {})[name] = roc_points(normal, adversarial)
                known = [each[~each.isnan()].tolist() for each in (normal, adversarial)]
                scores.setdefault(name, {NORMAL: known[0]})[attack] = known[1]
            transfer += _transfer(name, parts, list(self.attacks))
        if not rows:
            raise InputError("no attack succeeded on any of these images: there is nothing to detect; raise its budget")
        lost = trainer.strategy.reduce(lost, reduce_op="sum").tolist()
        missing = [attack for attack in self.attacks if attack not in curves]
        return DetectionResult(
            title="Detection",
            warnings=[
                *nan_warnings(*lost),
                *(f"{attack} has too few successes to be detected" for attack in missing),
                *(f"{name}: {text}" for name, detector in self.detectors.items() for text in detector.doubts),
            ],
            rows=rows,
            descriptions={name: type(detector).__name__ for name, detector in self.detectors.items()},
            transfer=transfer,
            curves=curves,
            scores=scores,
        )

    def _training_images(self, trainer: Trainer) -> Share:
        """Those that detectors are fitted on and those that thresholds are set on; the same on every rank."""
        return _Everywhere(trainer, _training_loader(trainer), self.fit_samples, self.batch_size, self.seed)

    def _fit(self, trainer: Trainer, model: LightningModule) -> None:
        """Fit and calibrate on the same training images on every rank."""
        batches = [(batch.image, batch.label, batch.index) for batch in self._training_images(trainer)]
        held_out = [_chance(batch[2]) < 1 / CALIBRATION for batch in batches]
        fitted, kept = (
            [
                tuple(part[chosen] for part in batch)
                for batch, chosen in zip(batches, which, strict=True)
                if chosen.any()
            ]
            for which in ([~each for each in held_out], held_out)
        )
        for name, detector in self.detectors.items():
            detector.fit(model, fitted)
            if self._sets_threshold[name] and not isinstance(detector, DetectorEnsemble):
                detector.calibrate(model, kept, self.false_positive_rate)

    def _measure(
        self, every: dict[str, dict[str, SampleTable]], kind: str, model: LightningModule, image: Tensor, index: Tensor
    ) -> None:
        if not len(image):
            return
        for name, detector in self.detectors.items():
            measures = detector.measures(model, image, index=index).double()
            extra = measures.new_full((len(image), EXTRA), torch.nan)
            extra[:, 0] = index
            if isinstance(detector, LabelChangeRate):
                verdict = detector.decide(model, image, index=index)
                extra[:, 1:] = torch.stack([verdict.suspicious, verdict.mutations, verdict.undecided], dim=1)
            elif not isinstance(detector, DetectorEnsemble):
                extra[:, 1] = above(detector.combine(measures), detector.known_threshold())
            every[name][kind].update(torch.cat([extra, measures], dim=1))


class _Everywhere(Share):
    """A choice of images that every rank sees in full."""

    def _choose(self, limit: int) -> None:
        order = torch.randperm(len(self._candidates), generator=torch.Generator().manual_seed(self.seed))
        self.index = self._chosen = self._candidates[order[:limit]]
        self.total = len(self.index)


def _training_loader(trainer: Trainer) -> DataLoader:
    """The trainer's training images; outside of fit those of its datamodule."""
    loaders = trainer.train_dataloader
    if loaders is None and trainer.datamodule is not None:
        loaders = trainer.datamodule.train_dataloader()
    flat = CombinedLoader(loaders).flattened if loaders is not None else []
    if not flat:
        raise InputError(
            "detectors learn from clean training images, and this trainer has none: run it with a datamodule that has "
            "a train_dataloader"
        )
    return flat[0]


def _halves(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Samples to fit regressions on and held-out ones, by their number: an image and its adversarial ones together."""
    index = samples[:, 0].long()
    fitted = _chance(index) < 0.5
    return samples[fitted], samples[~fitted]


def _chance(index: Tensor) -> Tensor:
    """U[0, 1) for each sample number [N], always the same."""
    return SampleNoise(0, index).uniform(torch.zeros(len(index), 1, device=index.device))[:, 0]


def _judged(
    detector: Detector, normal: tuple[Tensor, Tensor], adversarial: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Held-out samples of both kinds as columns (number, suspicious, mutations, undecided, score)."""
    combine, threshold = detector.combine, None
    if isinstance(detector, DetectorEnsemble):
        if min(len(normal[0]), len(adversarial[0])) < FEWEST:
            return None
        combine = LogisticRegression.fit(normal[0][:, EXTRA:], adversarial[0][:, EXTRA:], detector.strength)
        threshold = 0.0
    judged = []
    for samples in (normal[1], adversarial[1]):
        score = combine(samples[:, EXTRA:])
        extra = samples[:, :EXTRA].clone()
        if threshold is not None:
            extra[:, 1] = above(score, threshold)
        judged.append(torch.cat([extra, score[:, None]], dim=1))
    return judged[0], judged[1]


def _row(detector: str, attack: str, normal: Tensor, adversarial: Tensor) -> DetectionRow:
    area = auroc(normal[:, -1], adversarial[:, -1])
    both = torch.cat([normal, adversarial])
    sequential = not bool(both[:, 2].isnan().any())
    return DetectionRow(
        detector=detector,
        attack=attack,
        normal=len(normal),
        adversarial=len(adversarial),
        false_positives=int(normal[:, 1].sum()),
        true_positives=int(adversarial[:, 1].sum()),
        auroc=area,
        interval=auroc_interval(area, len(normal), len(adversarial)),
        normal_score=normal[:, -1].nanmean().item(),
        adversarial_score=adversarial[:, -1].nanmean().item(),
        mutations=both[:, 2].mean().item() if sequential else None,
        undecided=int(both[:, 3].sum()) if sequential else None,
    )


def _transfer(name: str, parts: dict[str, tuple[Tensor, Tensor]], attacks: list[str]) -> list[TransferRow]:
    normal = [half[:, EXTRA:] for half in parts[NORMAL]]
    rows = []
    for source in attacks:
        fitted_on = parts[source][0][:, EXTRA:]
        if min(len(normal[0]), len(fitted_on)) < FEWEST:
            continue
        regression = LogisticRegression.fit(normal[0], fitted_on)
        clean = regression(normal[1])
        areas, accuracies = {}, {}
        for target in (*attacks, WRONG):
            tested_on = parts[target][1][:, EXTRA:]
            if len(tested_on):
                odds = regression(tested_on)
                areas[target] = auroc(clean, odds)
                accuracies[target] = float((above(odds, 0.0).double().mean() + (clean <= 0).double().mean()) / 2)
        rows.append(TransferRow(name, source, areas, accuracies))
    return rows
