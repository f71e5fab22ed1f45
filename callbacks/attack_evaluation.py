"""Robust accuracy under named attacks at the end of an epoch."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.attacks import Attack, AttackResult
from lightning_adv.attacks.budget import Budget, as_text
from lightning_adv.attacks.trace import forward_float32
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, When
from lightning_adv.callbacks.masking import masking_warnings
from lightning_adv.callbacks.share import EvaluationBatch, Share
from lightning_adv.callbacks.sweep import EpsSweep
from lightning_adv.errors import InputError
from lightning_adv.metrics import AttackTally, CleanTally
from lightning_adv.reports.robustness import AttackRow, Examples, RobustnessResult

__all__ = ["AttackEvaluation"]


class AttackEvaluation(EpochEndEvaluation):
    """Clean accuracy, accuracy under each attack and under the worst of them for every image.

    Attacks see the images that the model classifies correctly; the others count as wrong. Works with any
    LightningModule whose ``forward`` maps images in [0, 1] to logits and any loader of ``(image, label, ...)``.

    Logs ``{stage}/{attack}/robust_accuracy``, ``{stage}/worst_case/robust_accuracy`` and each attack's success rate,
    perturbation norms and confidences, and ``{stage}/clean_accuracy`` of the images evaluated here unless the model
    logs that key itself.

    Args:
        attacks: name to attack.
        max_samples: images over all ranks, a seeded choice; None for all.
        every_n_epochs: in fit; the last epoch is always evaluated.
        batch_size: images a batch on one rank; None for the data loader's.
        eps_sweep: budgets for the accuracy-over-eps curve, drawn after the last epoch, in validate and test.
        sweep_samples: images of the curve, a choice of those evaluated.
        examples: images a picture shows for each attack.
        pictures: log pictures and tables "last" (after the last epoch, in validate and test), "always" or "never".
        seed: of the choice of images.
        name: two callbacks in one trainer need two names; one that is not the default stands before the keys.

    Raises:
        InputError: no attack, an unknown kind of batch, a forward that does not give logits, labels out of range.

    Example:
        >>> from lightning_adv.attacks import FGSM, PGD
        >>> AttackEvaluation({"fgsm": FGSM(eps="8/255"), "pgd": PGD(eps="8/255", steps=20)}, max_samples=500).name
        'attacks'
    """

    default_name: ClassVar[str] = "attacks"

    def __init__(
        self,
        attacks: dict[str, Attack],
        max_samples: int | None = None,
        every_n_epochs: int = 1,
        batch_size: int | None = None,
        eps_sweep: Sequence[Budget] = (),
        sweep_samples: int = 200,
        examples: int = 8,
        pictures: When = "last",
        seed: int = 0,
        name: str = "attacks",
    ) -> None:
        super().__init__(name, every_n_epochs, max_samples, batch_size, pictures, seed)
        if not attacks:
            raise InputError("attacks is empty: name at least one, e.g. attacks: {pgd: {class_path: PGD}}")
        if "worst_case" in attacks:
            raise InputError("an attack cannot be named worst_case: that is the worst of all attacks for every image")
        if examples < 0:
            raise InputError(f"examples must not be negative, got {examples}")
        self.attacks, self.examples = dict(attacks), examples
        self.sweep = EpsSweep(self.attacks, eps_sweep, sweep_samples) if eps_sweep else None

    def check(self, model: LightningModule, batch: EvaluationBatch) -> None:
        """Refuse a forward that does not give logits."""
        _logits(model, batch.image)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> None:
        """Attack this rank's images."""
        classes = _logits(model, images.first().image).shape[1]
        self._clean = CleanTally(classes).to(model.device)
        self._tallies = {name: AttackTally(classes).to(model.device) for name in self.attacks}
        self._shown: dict[str, list[list[Tensor]]] = {name: [] for name in self.attacks}
        self._notes: dict[str, None] = {}  # in order, each once
        for batch in self.track(trainer, images, " + ".join(self.attacks)):
            self._attack(model, batch)
        if self.sweep and self._is_last(trainer):
            self.sweep.run(model, self.track(trainer, images.fewer(self.sweep.max_samples), "eps sweep"))

    def results(self, trainer: Trainer) -> RobustnessResult:
        """Counts over all ranks."""
        counts, clean_confidence = self._clean.compute()
        samples, clean_correct, worst_case = counts.tolist()
        tallies = {name: tally.compute() for name, tally in self._tallies.items()}
        # torchmetrics makes a scalar of a vector of one image.
        clean_confidence = clean_confidence.reshape(-1)
        for tally in tallies.values():
            tally["confidence"] = tally["confidence"].reshape(-1)
        rows = [_row(name, attack, tallies[name], clean_confidence) for name, attack in self.attacks.items()]
        names = getattr(trainer.datamodule, "class_names", None)
        curves = self.sweep.curves(trainer) if self.sweep and self._is_last(trainer) else {}
        return RobustnessResult(
            title="Adversarial attacks",
            warnings=[*masking_warnings(self.attacks, rows, curves), *self._notes],
            samples=sum(samples),
            clean_correct=sum(clean_correct),
            class_names=list(names) if names and len(names) == len(samples) else [str(k) for k in range(len(samples))],
            per_class_samples=samples,
            per_class_clean_correct=clean_correct,
            attacks=rows,
            worst_case_correct=sum(worst_case),
            worst_case_per_class=worst_case,
            curves=curves,
            curve_samples=self.sweep.samples if curves else None,
            examples={
                name: Examples(*(torch.cat(part) for part in zip(*batches, strict=True)))
                for name, batches in self._shown.items()
                if batches
            },
            clean_confidences=clean_confidence.tolist(),
            adversarial_confidences={name: tally["confidence"].tolist() for name, tally in tallies.items()},
        )

    def _attack(self, model: LightningModule, batch: EvaluationBatch) -> None:
        logits = _logits(model, batch.image)
        _check_labels(batch.label, logits.shape[1])
        correct = logits.argmax(dim=1) == batch.label
        attacked = correct.nonzero().flatten()
        worst = correct.clone()
        confidence = logits.softmax(dim=1).amax(dim=1)
        image, label, index = batch.image[attacked], batch.label[attacked], batch.index[attacked]
        for name, attack in self.attacks.items():
            robust, attacked_confidence = correct.clone(), confidence.clone()
            if len(attacked):
                result = attack.run(model, image, label, index=index)
                robust[attacked] = ~result.success
                attacked_confidence[attacked] = result.logits.softmax(dim=1).amax(dim=1)
                self._show(name, image, label, logits[attacked], result)
                self._notes |= dict.fromkeys(f"{name}: {note}" for note in result.notes)
                parts = (result.images, result.restart, result.zero_gradient)
            else:
                parts = (image, label.new_zeros(0), torch.zeros_like(correct[:0]))
            self._tallies[name].update(batch.label, robust, attacked_confidence, image, *parts)
            worst &= robust
        self._clean.update(logits, batch.label, worst)

    def _show(self, name: str, image: Tensor, label: Tensor, logits: Tensor, result: AttackResult) -> None:
        """Keep the first attacked images of this rank for the picture (rank zero draws it)."""
        wanted = self.examples - sum(len(batch[0]) for batch in self._shown[name])
        if wanted <= 0:
            return
        before, after = (each[:wanted].softmax(dim=1).max(dim=1) for each in (logits, result.logits))
        shown = (image, result.images, label, before.indices, after.indices, before.values, after.values)
        self._shown[name].append([part[:wanted].detach().cpu() for part in shown])


def _logits(model: LightningModule, image: Tensor) -> Tensor:
    with torch.no_grad():
        logits = forward_float32(model, image)
    if logits.dim() != 2 or len(logits) != len(image):
        raise InputError(
            f"the model's forward must map {len(image)} images [N, C, H, W] to as many rows of logits [N, K], "
            f"got shape {tuple(logits.shape)}"
        )
    return logits


def _check_labels(label: Tensor, classes: int) -> None:
    lowest, highest = torch.stack(torch.aminmax(label)).tolist()  # one host sync
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise InputError(
            f"label {wrong} is outside [0, {classes}): the model has {classes} logits; labels count from 0"
        )


def _row(name: str, attack: Attack, tally: dict[str, Tensor], clean_confidence: Tensor) -> AttackRow:
    attacked, succeeded, at_first, zero_gradient = tally["counts"].tolist()
    samples = len(tally["confidence"])
    linf, l2, l1 = (total / succeeded if succeeded else None for total in tally["sums"].tolist())
    return AttackRow(
        name=name,
        description=_description(attack),
        norm=getattr(attack, "norm", "L2"),
        eps=getattr(attack, "eps", None),
        samples=samples,
        robust_correct=int(tally["correct"].sum()),
        success_rate=succeeded / attacked if attacked else None,
        mean_linf=linf,
        mean_l2=l2,
        mean_l1=l1,
        clean_confidence=float(clean_confidence.mean()),
        adversarial_confidence=float(tally["confidence"].mean()),
        per_class_correct=tally["correct"].tolist(),
        zero_gradient_share=zero_gradient / attacked if attacked else None,
        restart_gain=(succeeded - at_first) / samples if attack.restarts > 1 else None,
    )


def _description(attack: Attack) -> str:
    parts = [type(attack).__name__]
    if hasattr(attack, "norm"):
        parts.append(attack.norm)
    if hasattr(attack, "eps"):
        parts.append(f"eps {as_text(attack.eps)}")
    if getattr(attack, "steps", 1) > 1:
        parts.append(f"{attack.steps} steps of {as_text(attack.step_size)}")
    if attack.restarts > 1:
        parts.append(f"{attack.restarts} restarts")
    return ", ".join(parts)
