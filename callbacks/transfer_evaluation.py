"""Adversarial images of frozen sources against the model in training, at the end of an epoch."""

from pathlib import Path
from typing import ClassVar

from pytorch_lightning import LightningModule, Trainer
from torch import nn

from lightning_adv.asking import check_labels, logits_in_parts, predicted
from lightning_adv.attacks import Attack, leaves_no_trace
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.masking import reach
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.results.transfer import TransferredAttack, TransferResult, TransferTally

__all__ = ["TransferEvaluation"]

Measured = tuple[Judge, dict[tuple[str, str], TransferTally]]
"""Who gave the verdicts, and the counts by names of source and attack."""


class TransferEvaluation(EpochEndEvaluation[Measured]):
    """Attacks other, frozen models and evaluates the model on what they give: a black-box attack without a query.

    A transferred attack that leaves fewer images correct than an attack on the model itself, of the same norm and at
    least the same eps, shows that the model's gradients are masked; the warning stands in both sections of the report
    where an ``AttackEvaluation`` runs in the same trainer. A randomised model is judged as there, by fresh draws.

    Logs ``{stage}/transfer/{source}/{attack}/robust_accuracy`` and ``transfer_rate`` (of the images that deceive the
    source, the share that deceives the model), and ``{stage}/transfer/robust_accuracy``, the lowest.

    Args:
        sources: name to a checkpoint of ``train.py``, or to a module that maps images to logits.
        attacks: name to attack; a ``SubstituteAttack`` must be fitted already.
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: no source, no attack, a checkpoint that cannot be loaded, a source with other classes than the
            model.

    Example:
        >>> from lightning_adv.attacks import FGSM
        >>> source = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> TransferEvaluation({"linear": source}, {"fgsm": FGSM(eps=0.3)}).name
        'transfer'
    """

    default_name: ClassVar[str] = "transfer"

    def __init__(
        self,
        sources: dict[str, str | nn.Module],
        attacks: dict[str, Attack],
        **shared: Shared,
    ) -> None:
        super().__init__(**shared)
        if not sources or not attacks:
            raise InputError("a transfer evaluation needs a source and an attack, e.g. sources: {standard: last.ckpt}")
        self.sources, self.attacks = dict(sources), dict(attacks)
        self._models: dict[str, nn.Module] = {}

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a source that does not go with the model."""
        self._check_classes(model, images.first())

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> Measured:
        """Attack the sources on this rank's images."""
        classes = self._check_classes(model, images.first())
        judge = Judge(model, images, self.seed)
        tallies = {
            (source, attack): TransferTally().to(model.device) for source in self.sources for attack in self.attacks
        }
        for batch in self.track(trainer, images.balanced(), self.name):
            check_labels(batch.label, classes)
            clean = predicted(judge(batch.image, batch.index))
            for (name, attack), tally in tallies.items():
                source = self._models[name]
                crafted = self.attacks[attack].run(source, batch.image, batch.label, index=batch.index)
                attacked = predicted(judge(crafted.images, batch.index))
                tally.update(batch.label, clean, attacked, crafted.success)
        return judge, tallies

    def results(self, trainer: Trainer, measured: Measured) -> TransferResult:
        """Counts over all ranks."""
        judge, tallies = measured
        rows, warnings = [], list(judge.notes)
        for (source, name), tally in tallies.items():
            *counts, no_class = tally.compute().tolist()
            attack = self.attacks[name]
            rows.append(TransferredAttack(source, name, *counts, reach=reach(attack), description=repr(attack)))
            warnings += nan_warnings(no_class, counts[0], f"{name} on {source}")
        return TransferResult(
            title="Transferred attacks",
            rows=rows,
            descriptions={name: repr(attack) for name, attack in self.attacks.items()},
            warnings=warnings,
        )

    def _check_classes(self, model: LightningModule, batch: EvaluationBatch) -> int:
        classes = logits_in_parts(model, batch.image).shape[1]
        for name in self.sources:
            source = self._source(name, model)
            with leaves_no_trace(source):
                logits = logits_in_parts(source, batch.image)
            if logits.shape != (len(batch.image), classes):
                raise InputError(
                    f"source {name!r} gives {tuple(logits.shape)} for {len(batch.image)} images, and the model has "
                    f"{classes} classes: name a source trained on the same classes"
                )
        return classes

    def _source(self, name: str, model: LightningModule) -> nn.Module:
        if name not in self._models:
            source = self.sources[name]
            self._models[name] = _loaded(name, source) if isinstance(source, str) else source
        return self._models[name].to(model.device)


def _loaded(name: str, path: str) -> nn.Module:
    """The classifier of a checkpoint, frozen."""
    from lightning_adv.modules import load_classifier

    if not Path(path).is_file():
        raise InputError(
            f"source {name!r}: there is no checkpoint {path}; those of a run are in its folder checkpoints/"
        )
    try:
        module = load_classifier(path)
    except InputError as error:
        raise InputError(f"source {name!r}: {error}") from error
    return module.requires_grad_(False)
