"""Whether a model is right as often as it is sure, at the end of an epoch."""

from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import NO_CLASS, check_labels, confident, logits_in_parts
from lightning_adv.attacks import Attack
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.share import Share
from lightning_adv.evaluation.substitutes import Substitutes
from lightning_adv.results.calibration import CLEAN, OVERCONFIDENT, CalibrationResult, CalibrationRow

__all__ = ["CalibrationEvaluation"]

_Measured = tuple[Judge, Tensor]
"""Who gave the verdicts; [kinds, bins + 1, 3] images, right ones, sums of confidence; the last bin holds no class."""


class CalibrationEvaluation(EpochEndEvaluation[_Measured]):
    """Expected calibration error and reliability diagram, on clean images and under each attack (Guo et al., 2017).

    Every image is attacked, also one that the model has wrong. A randomised model is judged by the mean of draws that
    no attack has seen.

    Logs ``{stage}/{name}/clean/ece``, ``mce`` (the largest gap of a bin) and ``overconfidence`` (mean confidence less
    accuracy), and the same under the name of each attack.

    Args:
        attacks: name to attack; none for clean images alone.
        bins: of equal width, over confidences in (0, 1].
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: no bin, an attack named clean.

    Example:
        >>> from lightning_adv.attacks import FGSM
        >>> CalibrationEvaluation({"fgsm": FGSM(eps="8/255")}, max_samples=1000).bins
        15
    """

    default_name: ClassVar[str] = "calibration"
    named_by_default: ClassVar[bool] = True

    def __init__(self, attacks: dict[str, Attack] | None = None, bins: int = 15, **shared: Shared) -> None:
        super().__init__(**shared)
        self.require(1, bins=bins)
        self.attacks, self.bins = dict(attacks or {}), bins
        if CLEAN in self.attacks:
            raise InputError(f"an attack of CalibrationEvaluation cannot be named {CLEAN}: so are images without one")
        self._substitutes = Substitutes(self.attacks)

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a forward that does not give logits, and a substitute without images to begin with."""
        logits_in_parts(model, images.first().image)
        self._substitutes.check(images.trainer)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Count this rank's images by kind and confidence."""
        judge = Judge(model, images, self.seed)
        self._substitutes.fit(trainer, model, judge.classes)
        counts = torch.zeros(1 + len(self.attacks), self.bins + 1, 3, dtype=torch.double, device=model.device)
        for batch in self.track(trainer, images.balanced(), self.name):
            check_labels(batch.label, judge.classes)
            image = batch.image.float()
            for attack, table in zip((None, *self.attacks.values()), counts, strict=True):
                seen = image if attack is None else attack.run(model, image, batch.label, index=batch.index).images
                said, sure = confident(judge(seen, batch.index))
                known = said != NO_CLASS
                # A bin holds its upper end, as in the paper.
                place = torch.where(known, (sure * self.bins).ceil().long() - 1, self.bins).clamp(0, self.bins)
                parts = (torch.ones_like(sure), said == batch.label, torch.where(known, sure, 0))
                table.index_add_(0, place, torch.stack([part.double() for part in parts], dim=1))
        return judge, counts

    def results(self, trainer: Trainer, measured: _Measured) -> CalibrationResult:
        """Counts over all ranks."""
        judge, counts = measured
        every = trainer.strategy.reduce(counts, reduce_op="sum").cpu()
        kinds = {CLEAN: "no attack"} | {name: repr(attack) for name, attack in self.attacks.items()}
        rows, warnings = [], list(judge.notes)
        for (kind, description), table in zip(kinds.items(), every, strict=True):
            count, correct, confidence = table[: self.bins].T.tolist()
            rows.append(CalibrationRow(kind, description, list(map(int, count)), list(map(int, correct)), confidence))
            warnings += nan_warnings(int(table[self.bins, 0]), int(table[:, 0].sum()), "" if kind == CLEAN else kind)
        excess = rows[0].scalars().get("overconfidence", 0)
        if excess > OVERCONFIDENT:
            warnings.append(f"on clean images the model is surer than it is right, by {excess:.1%} in the mean")
        return CalibrationResult(title="Calibration", rows=rows, warnings=warnings)
