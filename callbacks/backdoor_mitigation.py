"""A backdoor taken out of a trained model: what trigger and clean images lead to before and after."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.model_helpers import is_overridden
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.asking import check_labels, predicted
from lightning_adv.backdoors import Target, Trigger, backdoor_labels
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.data.facts import DataFacts
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.known_backdoor import KnownBackdoor, known_backdoor
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.share import Share
from lightning_adv.files import replace_atomically
from lightning_adv.mitigations import Mitigation, MitigationReport, Retuning, Tried, prune
from lightning_adv.models import read_checkpoint
from lightning_adv.results.backdoor import BackdoorTally
from lightning_adv.results.mitigation import MitigationResult, Threshold

__all__ = ["BackdoorMitigation"]

THRESHOLDS = 10
"""Most thresholds of pruning that an attack is measured at, besides the chosen one."""


@dataclass(frozen=True)
class _Measured:
    """What this rank has measured before and after the repair; no backdoor where none is known.

    ``retuned`` is of the repaired model once it was tuned on again, ``tried`` of the model as every threshold of
    pruning would leave it.
    """

    backdoor: KnownBackdoor | None
    judge: Judge
    report: MitigationReport
    before: BackdoorTally
    after: BackdoorTally
    retuned: BackdoorTally | None
    tried: tuple[tuple[Tried, BackdoorTally], ...]


class BackdoorMitigation(EpochEndEvaluation[_Measured]):
    """Repairs the model of ``evaluate.py`` (or ``Trainer.test``), measures it before and after, saves what it became.

    The defender's clean images are the datamodule's calibration images and, in ``test``, its validation images; test
    images serve for measuring only. Evaluations that come before this callback see the model as it was, those after it
    the repaired one. In the run's folder, ``checkpoints/cleaned.ckpt`` is the checkpoint that was loaded with the new
    weights, or ``cleaned.safetensors`` holds them where there was none.

    Logs ``{stage}/{name}/clean_accuracy_before`` and ``_after``, the same of ``attack_success_rate`` (images of the
    source classes, else of all but the target) where the trigger is known, and ``pruned_channels``. A randomised model
    is judged by the mean of draws, the same ones before and after.

    What a mitigation prunes is chosen by clean images. Where the trigger is known, the report has beside it what each
    threshold would have left of the attack, and which an oracle would have taken that is told so.

    Args:
        mitigation: ``FinePruning``, ``NeuralCleanseUnlearning``, ...
        trigger: default that of the datamodule, a ``PoisonedDataModule``; a defender who knows none does without.
        target: the class that it leads to, or "all_to_all"; default that of the datamodule.
        clean_samples: most clean images that the defender has, a seeded choice; None for all.
        retune: fine-tune a copy of what was mended on clean images of which a few are poisoned, and log
            ``attack_success_rate_retuned`` and ``clean_accuracy_retuned``: a backdoor that comes back was only hidden.
        **shared: see ``EpochEndEvaluation``; there is one evaluation, so ``every_n_epochs`` has no say.

    Raises:
        InputError: in ``fit``, a datamodule without clean images, a trigger or target that does not fit, retuning
            without a trigger.

    Example:
        >>> from lightning_adv.mitigations import FinePruning
        >>> BackdoorMitigation(FinePruning(accuracy_drop=0.02)).name
        'mitigation'
    """

    default_name: ClassVar[str] = "mitigation"
    named_by_default: ClassVar[bool] = True

    def __init__(
        self,
        mitigation: Mitigation,
        trigger: Trigger | None = None,
        target: Target | None = None,
        clean_samples: int | None = None,
        retune: Retuning | None = None,
        **shared: Shared,
    ) -> None:
        super().__init__(**shared)
        self.require(2, clean_samples=clean_samples)
        self.mitigation, self.trigger, self.target = mitigation, trigger, target
        self.clean_samples, self.retune = clean_samples, retune

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to change a model that is being trained."""
        if stage == "fit":
            raise InputError(
                "BackdoorMitigation repairs a trained model: use it with evaluate.py --ckpt_path FILE, not while "
                "training"
            )
        super().setup(trainer, pl_module, stage)

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a target that the model has no logit for, and a defender without clean images."""
        backdoor = self._known(images.trainer)
        if backdoor is not None:
            backdoor.check(model, images)
        elif self.retune is not None:
            raise InputError(f"BackdoorMitigation {self.name!r} cannot retune without trigger and target: give it both")
        self._clean(images.trainer)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Measure, repair with the same images on every rank, measure."""
        backdoor, judge = self._known(trainer), Judge(model, images, self.seed)
        before, start = self._tally(trainer, judge, images, backdoor), _weights(model)
        clean = [(batch.image, batch.label) for share in self._clean(trainer) for batch in share]
        report = self.mitigation(model, clean)
        _agree(trainer, model)
        after, retuned, tried = self._tally(trainer, judge, images, backdoor), None, []
        if backdoor is not None and self.retune is not None:
            with _lent(model, _weights(model)):
                self.retune(model, clean, backdoor.trigger, backdoor.target, backdoor.source_classes)
                _agree(trainer, model)
                retuned = self._tally(trainer, judge, images, backdoor)
        for each in _shown(report) if backdoor is not None else ():
            with _lent(model, start):
                prune(model, each.prunings)
                tried.append((each, self._tally(trainer, judge, images, backdoor)))
        return _Measured(backdoor, judge, report, before, after, retuned, tuple(tried))

    def results(self, trainer: Trainer, measured: _Measured) -> MitigationResult:
        """Counts over all ranks."""
        backdoor, report = measured.backdoor, measured.report
        tallies = [each for each in (measured.before, measured.after, measured.retuned) if each is not None]
        clean, triggered = zip(*(tally.compute() for tally in tallies), strict=True)
        label = torch.arange(len(clean[0]), device=clean[0].device)
        led = sources = None
        thresholds = []
        if backdoor is not None:
            goal = backdoor_labels(label, backdoor.target, len(label))
            is_source = backdoor.is_source(label, len(label))
            led = [int(table[label, goal][is_source].sum()) for table in triggered]
            sources = int(clean[0].sum(dim=1)[is_source].sum())
            for each, tally in measured.tried:
                table, dressed = tally.compute()
                correct, turned = int(table.diagonal().sum()), int(dressed[label, goal][is_source].sum())
                pruned = sum(len(layer.pruned) for layer in each.prunings)
                thresholds.append(Threshold(each.threshold, pruned, each.correct, correct, turned))
        return MitigationResult(
            title="Mitigation",
            report=report,
            trigger="" if backdoor is None else repr(backdoor.trigger),
            target=None if backdoor is None else backdoor.target,
            samples=int(clean[0].sum()),
            correct=[int(table.diagonal().sum()) for table in clean],
            source_samples=sources,
            led=led,
            retuning="" if measured.retuned is None else f"{self.retune}",
            thresholds=thresholds,
            warnings=[
                *measured.judge.notes,
                *(
                    each
                    for when, table in zip(("before", "after", "retuned"), clean, strict=False)
                    for each in nan_warnings(int(table[:, -1].sum()), int(table.sum()), when)
                ),
                *report.repair.warnings,
            ],
        )

    def write(self, trainer: Trainer, model: LightningModule, folder: Path) -> None:
        """Save the repaired model."""
        state = {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}
        path = folder / "checkpoints" / ("cleaned.ckpt" if trainer.ckpt_path else "cleaned.safetensors")
        if trainer.ckpt_path:
            repaired = read_checkpoint(Path(trainer.ckpt_path)) | {"state_dict": state}
            replace_atomically(path, lambda file: torch.save(repaired, file))
        else:
            replace_atomically(path, save(state))
        print(f"repaired model: {path}", flush=True)

    def _tally(self, trainer: Trainer, judge: Judge, images: Share, backdoor: KnownBackdoor | None) -> BackdoorTally:
        """Predictions for this rank's images, without and with the trigger."""
        tally = BackdoorTally(judge.classes).to(judge.model.device)
        for batch in self.track(trainer, images, self.name):
            check_labels(batch.label, judge.classes)
            clean = triggered = predicted(judge(batch.image, batch.index))
            if backdoor is not None:
                triggered = predicted(judge(backdoor.trigger(batch.image.float()), batch.index))
            tally.update(batch.label, clean, triggered)
        return tally

    def _known(self, trainer: Trainer) -> KnownBackdoor | None:
        who = f"BackdoorMitigation {self.name!r}"
        return known_backdoor(who, trainer, self.trigger, self.target, required=False)

    def _clean(self, trainer: Trainer) -> list[Share]:
        """The defender's images, all of them on every rank."""
        data = trainer.datamodule
        make = DataFacts(data).calibration_dataloader
        loaders = [] if make is None else [make()]
        has_val = data is not None and is_overridden("val_dataloader", data, LightningDataModule)
        loaders += [data.val_dataloader()] if has_val and trainer.state.fn == "test" else []
        loaders = [loader for loader in loaders if isinstance(loader, DataLoader)]
        if not loaders:
            raise InputError(
                "BackdoorMitigation needs clean images that are not measured: run it in test with a datamodule that "
                "has a val_dataloader or a calibration_dataloader"
            )
        shares, left = [], self.clean_samples
        for loader in loaders:
            if left == 0:
                break
            share = Share(trainer, loader, left, self.batch_size, self.seed).on_every_rank()
            left = None if left is None else left - share.total
            shares.append(share)
        return shares


def _agree(trainer: Trainer, model: LightningModule) -> None:
    """Give every rank the first one's weights: kernels may differ in the last bit."""
    if trainer.world_size > 1:
        for weight in (*model.parameters(), *model.buffers()):
            torch.distributed.broadcast(weight.data, 0)


def _weights(model: LightningModule) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


@contextmanager
def _lent(model: LightningModule, weights: dict[str, Tensor]) -> Iterator[None]:
    """Other weights for a while; afterwards the model has its own again."""
    own = _weights(model)
    try:
        model.load_state_dict(weights)
        yield
    finally:
        model.load_state_dict(own)


def _shown(report: MitigationReport) -> list[Tried]:
    """Thresholds to measure the attack at, evenly over all that were tried; the chosen one among them."""
    tried = report.repair.tried
    step = max(1, -(-len(tried) // THRESHOLDS))
    return [each for i, each in enumerate(tried) if i % step == 0 or each.threshold == report.repair.threshold]
