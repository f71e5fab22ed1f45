"""A backdoor taken out of a trained model: what trigger and clean images lead to before and after."""

from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.model_helpers import is_overridden
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.asking import logits_of, predicted
from lightning_adv.backdoors import Target, Trigger, backdoor_labels, check_target
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, When
from lightning_adv.callbacks.run_record import run_folder
from lightning_adv.errors import InputError
from lightning_adv.evaluation.logits import check_labels, nan_warnings
from lightning_adv.evaluation.share import Share
from lightning_adv.files import replace_atomically
from lightning_adv.mitigations import Mitigation
from lightning_adv.models import read_checkpoint
from lightning_adv.results.backdoor import BackdoorTally
from lightning_adv.results.mitigation import MitigationResult

__all__ = ["BackdoorMitigation"]


class BackdoorMitigation(EpochEndEvaluation):
    """Repairs the model of ``evaluate.py`` (or ``Trainer.test``), measures it before and after, saves what it became.

    The defender's clean images are the datamodule's calibration images and, in ``test``, its validation images; test
    images serve for measuring only. Evaluations that come before this callback see the model as it was, those after it
    the repaired one. In the run's folder, ``checkpoints/cleaned.ckpt`` is the checkpoint that was loaded with the new
    weights, or ``cleaned.safetensors`` holds them where there was none.

    Logs ``{stage}/{name}/clean_accuracy_before`` and ``_after``, the same of ``attack_success_rate`` (images of the
    target class left out) where the trigger is known, and ``pruned_channels``.

    Args:
        mitigation: ``FinePruning``, ``NeuralCleanseUnlearning``, ...
        trigger: default that of the datamodule, a ``PoisonedDataModule``; a defender who knows none does without.
        target: the class that it leads to, or "all_to_all"; default that of the datamodule.
        clean_samples: most clean images that the defender has, a seeded choice; None for all.
        max_samples: images over all ranks that are measured, a seeded choice; None for all.
        batch_size: images a batch on one rank; None for the data loader's.
        pictures: log tables "last", "always" or "never".
        seed: of the choices of images.
        name: part of the keys; two callbacks in one trainer need two names.

    Raises:
        InputError: in ``fit``, a datamodule without clean images, a trigger or target that does not fit.

    Example:
        >>> from lightning_adv.mitigations import FinePruning
        >>> BackdoorMitigation(FinePruning(accuracy_drop=0.02)).name
        'mitigation'
    """

    def __init__(
        self,
        mitigation: Mitigation,
        trigger: Trigger | None = None,
        target: Target | None = None,
        clean_samples: int | None = None,
        max_samples: int | None = None,
        batch_size: int | None = None,
        pictures: When = "last",
        seed: int = 0,
        name: str = "mitigation",
    ) -> None:
        super().__init__(name, 1, max_samples, batch_size, pictures, seed)
        if clean_samples is not None and clean_samples < 2:
            raise InputError(f"clean_samples must be at least 2, got {clean_samples}")
        self.mitigation, self.trigger, self.target = mitigation, trigger, target
        self.clean_samples = clean_samples

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
        trigger, target = self._attack(images.trainer)
        first = images.first().image
        if trigger is not None:
            trigger(first.float())
            check_target(target, _predicted(model, first)[1])
        self._clean(images.trainer)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> None:
        """Measure, repair with the same images on every rank, measure."""
        trigger, target = self._attack(trainer)
        self._before = self._tally(trainer, model, images, trigger, target)
        clean = [(batch.image, batch.label) for share in self._clean(trainer) for batch in share]
        self._report = self.mitigation(model, clean)
        if trainer.world_size > 1:  # kernels may differ in the last bit
            for weight in (*model.parameters(), *model.buffers()):
                torch.distributed.broadcast(weight.data, 0)
        self._after = self._tally(trainer, model, images, trigger, target)

    def results(self, trainer: Trainer) -> MitigationResult:
        """Counts over all ranks."""
        trigger, target = self._attack(trainer)
        clean, triggered = zip(*(tally.compute() for tally in (self._before, self._after)), strict=True)
        label = torch.arange(len(clean[0]), device=clean[0].device)
        led = sources = None
        if trigger is not None:
            goal = backdoor_labels(label, target, len(label))
            others = label != goal
            led = [int(table[label, goal][others].sum()) for table in triggered]
            sources = int(clean[0].sum(dim=1)[others].sum())
        return MitigationResult(
            title="Mitigation",
            report=self._report,
            trigger="" if trigger is None else repr(trigger),
            target=target,
            samples=int(clean[0].sum()),
            correct=[int(table.diagonal().sum()) for table in clean],
            source_samples=sources,
            led=led,
            warnings=[
                *(each for when, table in zip(("before", "after"), clean, strict=True) for each in _lost(table, when)),
                *self._report.repair.warnings,
            ],
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the model that was repaired in ``validate``."""
        if trainer.state.fn == "validate":
            self._save(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the model that was repaired in ``test``."""
        self._save(trainer, pl_module)

    def _tally(
        self, trainer: Trainer, model: LightningModule, images: Share, trigger: Trigger | None, target: Target | None
    ) -> BackdoorTally:
        """Predictions for this rank's images, without and with the trigger."""
        classes = _predicted(model, images.first().image)[1]
        if trigger is not None:
            check_target(target, classes)
        tally = BackdoorTally(classes).to(model.device)
        for batch in self.track(trainer, images, self.name):
            check_labels(batch.label, classes)
            clean = _predicted(model, batch.image)[0]
            triggered = clean if trigger is None else _predicted(model, trigger(batch.image.float()))[0]
            tally.update(batch.label, clean, triggered)
        return tally

    def _attack(self, trainer: Trainer) -> tuple[Trigger | None, Target | None]:
        data = trainer.datamodule
        trigger = getattr(data, "trigger", None) if self.trigger is None else self.trigger
        target = getattr(data, "target", None) if self.target is None else self.target
        if (trigger is None) != (target is None):
            missing = "trigger" if trigger is None else "target"
            raise InputError(f"BackdoorMitigation {self.name!r} has no {missing}: give it both trigger and target")
        return trigger, target

    def _clean(self, trainer: Trainer) -> list[Share]:
        """The defender's images, all of them on every rank."""
        data = trainer.datamodule
        loaders = [data.calibration_dataloader()] if hasattr(data, "calibration_dataloader") else []
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

    def _save(self, trainer: Trainer, model: LightningModule) -> None:
        folder = run_folder(trainer)
        if self.result is None or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        state = {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}
        path = folder / "checkpoints" / ("cleaned.ckpt" if trainer.ckpt_path else "cleaned.safetensors")
        if trainer.ckpt_path:
            repaired = read_checkpoint(Path(trainer.ckpt_path)) | {"state_dict": state}
            replace_atomically(path, lambda file: torch.save(repaired, file))
        else:
            replace_atomically(path, save(state))
        print(f"repaired model: {path}", flush=True)


def _lost(table: Tensor, when: str) -> list[str]:
    return nan_warnings(int(table[:, -1].sum()), int(table.sum()), when)


def _predicted(model: LightningModule, image: Tensor) -> tuple[Tensor, int]:
    """Classes [N], and how many there are."""
    with torch.no_grad():
        logits = logits_of(model, image)
    return predicted(logits), logits.shape[1]
