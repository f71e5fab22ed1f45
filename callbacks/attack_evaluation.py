"""Robust accuracy under named attacks at the end of an epoch."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_adv.asking import asked_at_once, check_labels, confident, logits_in_parts
from lightning_adv.attacks import Attack
from lightning_adv.attacks.budget import Budget
from lightning_adv.attacks.randomised import RANDOMISED, warn_of_single_draws
from lightning_adv.attacks.search_low import searching_low, stage_names
from lightning_adv.attacks.trace import uses_batch_statistics
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.callbacks.run_record import RunRecord, run_folder
from lightning_adv.errors import InputError
from lightning_adv.evaluation.attack_log import AttackLog
from lightning_adv.evaluation.attack_rows import attack_row, without_a_class
from lightning_adv.evaluation.eps_sweep import EpsSweep, distance_curve
from lightning_adv.evaluation.first_few import FirstFew
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.masking import masking_warnings
from lightning_adv.evaluation.meeting import wait_for_every_rank
from lightning_adv.evaluation.saved_images import SavedImages, write_images
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.evaluation.substitutes import Substitutes
from lightning_adv.evaluation.verdict_journal import NORMS, Verdict, VerdictJournal, fingerprint
from lightning_adv.models import computes_in_bf16
from lightning_adv.names import file_name
from lightning_adv.results.examples import Examples
from lightning_adv.results.robustness import RobustnessResult
from lightning_adv.results.robustness_tally import AttackTally, CleanTally

__all__ = ["AttackEvaluation"]

OVERSTATED = (
    "{}: on a randomised model the distances are too large, and the accuracies read off them too high: the nearest "
    "image that fools one draw seldom fools the mean of all, and then counts as not found; use an attack with a budget"
)


@dataclass
class _Measured:
    """What this rank has measured: verdicts by tally, the first images of each attack, the counts of the sweep."""

    judge: Judge
    clean: CleanTally
    tallies: dict[str, AttackTally]
    shown: dict[str, FirstFew]
    journal: VerdictJournal
    log: AttackLog
    saved: SavedImages
    swept: Tensor | None = None


class AttackEvaluation(EpochEndEvaluation[_Measured]):
    """Clean accuracy, accuracy under each attack and under the worst of them for every image.

    A minimal-norm attack without a budget (C&W, DeepFool, FAB) is run once: its distances are the accuracy for every
    eps. It has no say in the worst case.

    Attacks see the images that the model classifies correctly; the others count as wrong. Works with any
    LightningModule whose ``forward`` maps images in [0, 1] to logits and any loader of ``(image, label, ...)``.

    Logs ``{stage}/{attack}/robust_accuracy``, ``{stage}/worst_case/robust_accuracy`` and each attack's success rate,
    perturbation norms and confidences, the median distance of minimal-norm attacks, and ``{stage}/clean_accuracy`` of
    the images evaluated here unless the model logs that key itself.

    A ``SubstituteAttack`` learns its substitute from the model before every evaluation, beginning with calibration
    images of the datamodule.

    A rank that is done with its batches goes on with those that slower ranks have not begun: attacks leave more to do
    where images are robust.

    A randomised model is told by two forwards of one image. All its verdicts, clean and attacked, are the mean
    prediction over draws that no attack has seen, and the report warns of attacks that follow single draws.

    Several batches are attacked together. The model is asked about as many images at once as a batch has; as images
    fall, those of the other batches take their places. Verdicts do not depend on it.

    Verdicts are written to a folder when these batches are done with: ``evaluate.py`` or ``train.py`` with the same
    ``--run`` goes on where a killed one was, and does no others twice.

    Args:
        attacks: name to attack.
        eps_sweep: budgets for the accuracy-over-eps curve, drawn after the last epoch, in validate and test.
        sweep_samples: images of the curve, a choice of those evaluated.
        examples: images shown of those that each attack turned, and as many of those that withstood it.
        save_images: images that are saved with what each attack made of them, in ``adversarial/<name>/<attack>`` of the
            run's folder: ``images.npz`` (float32 x and x_adv, y, index, clean_predicted, predicted), ``labels.csv`` and
            PNG files. An image that is wrong without an attack is its own adversarial image.
        verdicts: folder that keeps them; None for ``verdicts`` in the run's folder, and for none in a trainer that the
            command line did not make.
        together: batches that are attacked together, fewer where a rank has few of them. A randomised model, or one
            whose answers hang on the batch, is attacked batch by batch.
        precision: "bf16" searches in bfloat16, on devices that have instructions for it, and judges as without it
            (``SearchLow``, around each attack with a budget); "float32" is the precision of the trainer.
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: no attack, an unknown precision or kind of batch, no logits, labels out of range.

    Example:
        >>> from lightning_adv.attacks import FGSM, PGD
        >>> AttackEvaluation({"fgsm": FGSM(eps="8/255"), "pgd": PGD(eps="8/255", steps=20)}, max_samples=500).name
        'attacks'
    """

    default_name: ClassVar[str] = "attacks"

    def __init__(
        self,
        attacks: dict[str, Attack],
        eps_sweep: Sequence[Budget] = (),
        sweep_samples: int = 200,
        examples: int = 4,
        save_images: int = 0,
        verdicts: str | None = None,
        together: int = 4,
        precision: Literal["float32", "bf16"] = "float32",
        **shared: Shared,
    ) -> None:
        super().__init__(**shared)
        if not attacks:
            raise InputError("attacks is empty: name at least one, e.g. attacks: {pgd: {class_path: PGD}}")
        if "worst_case" in attacks:
            raise InputError("an attack cannot be named worst_case: that is the worst of all attacks for every image")
        if precision not in ("float32", "bf16"):
            raise InputError(f"precision must be float32 or bf16, got {precision!r}")
        self.require(0, examples=examples, save_images=save_images)
        self.require(1, together=together)
        self.precision, self.examples, self.save_images = precision, examples, save_images
        self.attacks = {name: searching_low(each) if precision == "bf16" else each for name, each in attacks.items()}
        self._saved: dict[str, dict[str, np.ndarray]] = {}
        self.verdicts, self.together = verdicts, together
        self.grow: Callable[[int, Share], int] = _to_all
        """How many of the images to go on to after the first so many; no more ends the evaluation."""
        self._substitutes = Substitutes(attacks)
        # An attack without a budget succeeds at any distance: what it finds is the distance, and one run is a curve.
        self._minimal = [name for name, each in attacks.items() if each.shortest and not each.has_budget]
        budgeted = {name: attack for name, attack in self.attacks.items() if name not in self._minimal}
        self.sweep = EpsSweep(budgeted, eps_sweep, sweep_samples) if eps_sweep else None

    def leave_out(self, name: str) -> None:
        """Do without one of the attacks."""
        del self.attacks[name]
        self._minimal = [each for each in self._minimal if each != name]
        if self.sweep is not None:
            self.sweep.attacks.pop(name, None)

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a forward that does not give logits, and a substitute without images to begin with."""
        logits_in_parts(model, images.first().image)
        if self.precision == "bf16" and not computes_in_bf16(model.device):
            rank_zero_warn(f"{self.name}: {model.device} has no instructions for bfloat16: leave precision out")
        self._substitutes.check(images.trainer)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Attack this rank's images."""
        judge = Judge(model, images, self.seed)
        first = trainer.strategy.broadcast(self.grow(0, images))  # this may leave attacks out
        found = _Measured(
            judge,
            CleanTally(judge.classes).to(model.device),
            {
                name: AttackTally(judge.classes, len(stage_names(attack))).to(model.device)
                for name, attack in self.attacks.items()
            },
            {name: FirstFew(self.examples) for name in self.attacks},
            self._open_journal(trainer, model),
            AttackLog(trainer, self.attacks, self._minimal),
            SavedImages(images.fewer(self.save_images).on_every_rank().index),
        )
        if self._is_weakened(judge):
            warn_of_single_draws()
        self._substitutes.fit(trainer, model, judge.classes)
        together = 1 if judge.draws > 1 or uses_batch_statistics(model) else self.together
        with asked_at_once(images.batch_size):
            for some in self._stretches(trainer, images, first):
                for batch in found.log.over(some.merged(together).balanced(), " + ".join(self.attacks)):
                    self._attack(model, batch, found)
        for name, tally in found.tallies.items():
            rows = found.journal.stages(name)
            if rows:
                tally.add_stages(
                    torch.tensor([rows.get(each, (0, 0, 0.0)) for each in stage_names(self.attacks[name])])
                )
        if self.sweep and self._is_last(trainer):
            few = self.track(trainer, images.fewer(self.sweep.max_samples).merged(together).balanced(), "eps sweep")
            with asked_at_once(images.batch_size):
                found.swept = self.sweep.run(model, few, judge)
        return found

    def results(self, trainer: Trainer, measured: _Measured) -> RobustnessResult:
        """Counts over all ranks."""
        counts, clean_confidence = measured.clean.compute()
        samples, clean_correct, worst_case = counts.tolist()
        tallies = {name: tally.compute() for name, tally in measured.tallies.items()}
        # torchmetrics makes a scalar of a vector of one image.
        clean_confidence = clean_confidence.reshape(-1)
        for tally in tallies.values():
            tally |= {key: tally[key].reshape(-1) for key in ("confidence", "distance")}
        rows = [attack_row(name, attack, tallies[name], clean_confidence) for name, attack in self.attacks.items()]
        curves, swept_samples = ({}, 0) if measured.swept is None else self.sweep.curves(trainer, measured.swept)
        swept = dict.fromkeys(curves, swept_samples)
        for name in self._minimal:
            curves[name] = distance_curve(tallies[name]["distance"])
        shown = {name: few.joined() for name, few in measured.shown.items()}
        self._saved = measured.saved.on_every_rank(trainer)
        return RobustnessResult(
            title="Adversarial attacks",
            warnings=[
                *without_a_class(clean_confidence, tallies),
                *([RANDOMISED] if self._is_weakened(measured.judge) else []),
                *([OVERSTATED.format(", ".join(self._minimal))] if self._minimal and measured.judge.draws > 1 else []),
                *masking_warnings(self.attacks, rows, curves),
                *measured.journal.notes,
            ],
            draws=measured.judge.draws,
            samples=sum(samples),
            clean_correct=sum(clean_correct),
            class_names=self.class_names(trainer, len(samples)),
            per_class_samples=samples,
            per_class_clean_correct=clean_correct,
            attacks=rows,
            worst_case_correct=sum(worst_case),
            worst_case_per_class=worst_case,
            curves=curves,
            curve_samples=swept,
            examples={name: Examples(*parts) for name, parts in shown.items() if parts is not None},
            clean_confidences=clean_confidence.tolist(),
            adversarial_confidences={name: tally["confidence"].tolist() for name, tally in tallies.items()},
        )

    def write(self, trainer: Trainer, model: LightningModule, folder: Path) -> None:
        """Write the images that are to be saved."""
        for name, arrays in self._saved.items():
            write_images(folder / "adversarial" / file_name(self.name) / file_name(name), arrays)

    def _stretches(self, trainer: Trainer, images: Share, more: int) -> Iterator[Share]:
        """All images, in the stretches in which their number grows."""
        done = 0
        while more > done:
            yield images.fewer(more, after=done)
            wait_for_every_rank(trainer)  # the last batch of one may take longer than a collective waits
            done, more = more, trainer.strategy.broadcast(self.grow(more, images))

    def _attack(self, model: LightningModule, batch: EvaluationBatch, found: _Measured) -> None:
        logits = found.judge(batch.image, batch.index)
        check_labels(batch.label, logits.shape[1])
        said, confidence = confident(logits)
        correct = said == batch.label
        attacked = correct.nonzero().flatten()
        worst = correct.clone()
        few = EvaluationBatch(batch.image[attacked], batch.label[attacked], batch.index[attacked])
        checks = found.journal.checks(few.image, few.label)
        for name, attack in self.attacks.items():
            robust, attacked_confidence = correct.clone(), confidence.clone()
            with found.log.attack(name, correct, robust):
                verdicts = self._verdicts(name, model, batch, attacked, logits, checks, found) if len(attacked) else []
                restart = few.label.new_tensor([verdict.restart for verdict in verdicts])
                robust[attacked] = restart < 0
            zero_gradient = few.label.new_tensor([verdict.zero_gradient for verdict in verdicts]).bool()
            sizes = torch.tensor([v.sizes for v in verdicts], dtype=torch.double, device=model.device).reshape(-1, 3)
            attacked_confidence[attacked] = confidence.new_tensor([verdict.confidence for verdict in verdicts])
            distance = None
            if name in self._minimal:
                distance = torch.zeros_like(correct, dtype=torch.double)
                nearest = sizes[:, NORMS.index(attack.shortest)]
                distance[attacked] = torch.where(restart < 0, torch.inf, nearest)
            found.tallies[name].update(
                batch.label, robust, attacked_confidence, sizes, restart, zero_gradient, distance
            )
            if name not in self._minimal:
                worst &= robust
            self._save(name, batch, said, correct, found)
        found.clean.update(logits, batch.label, worst)

    def _save(self, name: str, batch: EvaluationBatch, said: Tensor, correct: Tensor, found: _Measured) -> None:
        rows = found.saved.wants(batch.index).nonzero().flatten()
        if not len(rows):
            return
        images, predictions, kept = batch.image[rows].float().clone(), said[rows].clone(), found.journal.kept(name)
        for place, number in enumerate(batch.index[rows].tolist()):
            if correct[rows[place]]:
                images[place], predictions[place] = (each.to(images.device) for each in kept[number])
        numbered = (batch.label[rows], batch.index[rows], said[rows])
        found.saved.add(name, batch.image[rows].float(), images, *numbered, predictions)

    def _verdicts(
        self,
        name: str,
        model: LightningModule,
        batch: EvaluationBatch,
        attacked: Tensor,
        logits: Tensor,
        checks: list[int],
        found: _Measured,
    ) -> list[Verdict]:
        """What this attack does to each image ``attacked``, of which the journal may know some already."""
        journal, shown = found.journal, found.shown[name]
        confidence = confident(logits[attacked])[1]
        known = journal.find(name, batch.index[attacked], checks, confidence)
        saved, kept = found.saved.wants(batch.index[attacked]).tolist(), journal.kept(name)
        lacks = [
            wanted and number not in kept for wanted, number in zip(saved, batch.index[attacked].tolist(), strict=True)
        ]
        new = [i for i, verdict in enumerate(known) if verdict is None]
        again = [i for i, verdict in enumerate(known) if verdict is not None and lacks[i]]
        for left in filter(None, (new, again)):
            rows = torch.tensor(left, device=batch.image.device)
            places = attacked[rows]
            image, label, index = batch.image[places], batch.label[places], batch.index[places]
            attack = self.attacks[name]
            result = attack.run(model, image, label, index=index)
            result = found.judge.verdict(result, batch, places, attack.reaches)
            if left is again:  # for its images alone: what its stages broke is counted
                result = replace(result, stages=())
            before, sure_before = confident(logits[places])
            after, sure_after = confident(result.logits)
            parts = (image, result.images, label, before, after, sure_before, sure_after)
            drawn = shown.add(*parts, kind=after != label)
            wanted = found.saved.wants(index)
            journal.keep(name, index[wanted], result.images[wanted], after[wanted])
            journal.add(name, index, [checks[i] for i in left], confidence[rows], image, result, drawn)
        if new or again:
            known = journal.find(name, batch.index[attacked], checks, confidence)
        if len(new) + len(again) < len(known) and (earlier := journal.shown(name, batch.index[attacked])):
            shown.add(*earlier, kind=earlier[4] != earlier[2])
        return known

    def _is_weakened(self, judge: Judge) -> bool:
        """Whether the model is randomised and an attack follows single draws of it."""
        return judge.draws > 1 and any(attack.draws == 1 for attack in self.attacks.values())

    def _open_journal(self, trainer: Trainer, model: LightningModule) -> VerdictJournal:
        folder = None if self.verdicts is None else Path(self.verdicts)
        if folder is None and any(isinstance(callback, RunRecord) for callback in trainer.callbacks):
            folder = run_folder(trainer) / "verdicts"
        if folder is None or trainer.fast_dev_run:
            return VerdictJournal()
        key = fingerprint(model, self.attacks, str(trainer.precision))
        journal = VerdictJournal(folder / file_name(self.name), key, trainer.global_rank, trainer.world_size)
        if len(journal) and trainer.is_global_zero:
            sys.stderr.write(f"{self.name}: going on after {len(journal)} verdicts of an earlier run in {folder}\n")
        return journal


def _to_all(done: int, images: Share) -> int:
    return images.total
