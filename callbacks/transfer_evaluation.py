"""Adversarial images of frozen sources against the model in training, at the end of an epoch."""

from pathlib import Path
from typing import ClassVar

from pytorch_lightning import LightningModule, Trainer
from torch import nn

from lightning_adv.asking import predicted
from lightning_adv.attacks import Attack, leaves_no_trace
from lightning_adv.callbacks.attack_evaluation import AttackEvaluation
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, When
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import check_labels, clean_logits, nan_warnings
from lightning_adv.evaluation.masking import is_yardstick
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.results.robustness import RobustnessResult
from lightning_adv.results.transfer import TransferredAttack, TransferResult, TransferTally

__all__ = ["TransferEvaluation"]

TOLERANCE = 0.02
"""Accuracies may differ by so much without meaning anything."""


class TransferEvaluation(EpochEndEvaluation):
    """Attacks other, frozen models and evaluates the model on what they give: a black-box attack without a query.

    A transferred attack that leaves fewer images correct than an attack on the model itself, of the same norm and at
    least the same eps, shows that the model's gradients are masked; the warning stands in both sections of the report
    where an ``AttackEvaluation`` runs in the same trainer. A randomised model is judged as there, by fresh draws.

    Logs ``{stage}/transfer/{source}/{attack}/robust_accuracy`` and ``transfer_rate`` (of the images that deceive the
    source, the share that deceives the model), and ``{stage}/transfer/robust_accuracy``, the lowest.

    Args:
        sources: name to a checkpoint of ``train.py``, or to a module that maps images to logits.
        attacks: name to attack; a ``SubstituteAttack`` must be fitted already.
        max_samples: images over all ranks, a seeded choice; None for all.
        every_n_epochs: in fit; the last epoch is always evaluated.
        batch_size: images a batch on one rank; None for the data loader's.
        pictures: log pictures and tables "last" (after the last epoch, in validate and test), "always" or "never".
        seed: of the choice of images.
        name: two callbacks in one trainer need two names; one that is not the default stands before the keys.

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
        max_samples: int | None = None,
        every_n_epochs: int = 1,
        batch_size: int | None = None,
        pictures: When = "last",
        seed: int = 0,
        name: str = "transfer",
    ) -> None:
        super().__init__(name, every_n_epochs, max_samples, batch_size, pictures, seed)
        if not sources or not attacks:
            raise InputError("a transfer evaluation needs a source and an attack, e.g. sources: {standard: last.ckpt}")
        self.sources, self.attacks = dict(sources), dict(attacks)
        self._models: dict[str, nn.Module] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come after the attacks on the model itself, whose results are compared with these."""
        super().setup(trainer, pl_module, stage)
        if any(isinstance(each, AttackEvaluation) for each in trainer.callbacks):
            others = [each for each in trainer.callbacks if each is not self]
            last = max(i for i, each in enumerate(others) if isinstance(each, AttackEvaluation))
            trainer.callbacks = [*others[: last + 1], self, *others[last + 1 :]]

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a source that does not go with the model."""
        self._check_classes(model, images.first())

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> None:
        """Attack the sources on this rank's images."""
        classes = self._check_classes(model, images.first())
        self._judge = Judge(model, images, self.seed)
        pairs = [(source, attack) for source in self.sources for attack in self.attacks]
        self._tallies = {pair: TransferTally().to(model.device) for pair in pairs}
        for batch in self.track(trainer, images, self.name):
            check_labels(batch.label, classes)
            clean = predicted(self._judge(batch.image, batch.index))
            for (name, attack), tally in self._tallies.items():
                source = self._models[name]
                crafted = self.attacks[attack].run(source, batch.image, batch.label, index=batch.index)
                attacked = predicted(self._judge(crafted.images, batch.index))
                tally.update(batch.label, clean, attacked, crafted.success)

    def results(self, trainer: Trainer) -> TransferResult:
        """Counts over all ranks, and what they say of the attacks on the model itself."""
        counts = {pair: tally.compute().tolist() for pair, tally in self._tallies.items()}
        rows = [TransferredAttack(*pair, *each[:5]) for pair, each in counts.items()]
        names = {pair: f"{pair[1]} on {pair[0]}" for pair in counts}
        result = TransferResult(
            title="Transferred attacks",
            rows=rows,
            descriptions={name: repr(attack) for name, attack in self.attacks.items()},
            warnings=self._judge.notes
            + [each for pair, found in counts.items() for each in nan_warnings(found[5], found[0], names[pair])],
        )
        for callback in trainer.callbacks:
            if isinstance(callback, AttackEvaluation) and self._is_fresh(trainer, callback.result):
                warnings = [each for row in rows for each in self._masked(row, callback)]
                result.warnings += warnings
                callback.result.warnings += warnings
        return result

    def _is_fresh(self, trainer: Trainer, result: RobustnessResult | None) -> bool:
        stage = "test" if trainer.state.fn == "test" else "val"
        epoch = trainer.current_epoch + 1 if trainer.state.fn == "fit" else 0
        return result is not None and (result.stage, result.epoch) == (stage, epoch)

    def _masked(self, row: TransferredAttack, callback: AttackEvaluation) -> list[str]:
        """Attacks on the model itself that this transferred one surpasses."""
        transferred = self.attacks[row.attack]
        found = []
        for own in callback.result.attacks:
            attack = callback.attacks[own.name]
            comparable = repr(attack) == repr(transferred) or is_yardstick(attack, transferred)
            if comparable and row.robust_accuracy < own.robust_accuracy - TOLERANCE:
                found.append(
                    f"{row.attack} crafted on {row.source} leaves {row.robust_accuracy:.1%} of the images correct, "
                    f"{own.name} on the model itself {own.robust_accuracy:.1%}: its gradients are masked, and its "
                    "robust accuracy is an upper bound"
                )
        return found

    def _check_classes(self, model: LightningModule, batch: EvaluationBatch) -> int:
        classes = clean_logits(model, batch.image).shape[1]
        for name in self.sources:
            source = self._source(name, model)
            with leaves_no_trace(source):
                logits = clean_logits(source, batch.image)
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
