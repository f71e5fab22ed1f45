"""A watch for catastrophic overfitting in fast adversarial training (Wong, Rice, Kolter, 2020)."""

import math
from typing import Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from lightning_adv.attacks import PGD, Attack
from lightning_adv.attacks.labels import as_truth, most_likely
from lightning_adv.errors import InputError
from lightning_adv.models import check_finite
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives.attacked import AttackedObjective
from lightning_adv.objectives.awp import innermost

__all__ = ["CatastrophicOverfittingGuard"]


class CatastrophicOverfittingGuard(Callback):
    """Attacks the last training batch of every epoch with several steps; a collapse ends the training.

    Training with one attack step can collapse within an epoch: still robust to that step, no longer to PGD. When the
    robust accuracy falls by more than ``drop`` below the best epoch's, the guard says so and stops, by default with the
    weights of the last good epoch. A training that collapses in its first epochs has nothing to fall from: where it
    meets the guard's eps all through an epoch (no warm-up, no random eps), the guard's accuracy also must not lie by
    more than ``drop`` below, and under a quarter of, the one that the training reports under its own attack (the gap
    of Andriushchenko and Flammarion, 2020). A young network may do so for an epoch and recover: two in a row are a
    collapse. Logs ``train/guard/robust_accuracy``; the class of images that were joined (``CutMix``) is their
    likeliest.

    Args:
        attack: default PGD of 5 steps at eps 8/255; give it the training's eps.
        drop: distance of the accuracies that counts as a collapse (0.2 in the paper's code).
        action: "restore" the last good epoch's weights and stop, or just "stop".

    Raises:
        InputError: ``drop`` outside (0, 1), an unknown action.

    Example:
        >>> from lightning_adv.attacks import PGD
        >>> CatastrophicOverfittingGuard(PGD(eps="8/255", steps=5), action="stop").drop
        0.2
    """

    def __init__(
        self, attack: Attack | None = None, drop: float = 0.2, action: Literal["restore", "stop"] = "restore"
    ) -> None:
        super().__init__()
        if not 0 < drop < 1:
            raise InputError(f"drop must lie between 0 and 1, got {drop}")
        if action not in ("restore", "stop"):
            raise InputError(f"action must be restore or stop, got {action!r}")
        self.attack, self.drop, self.action = attack or PGD(steps=5), drop, action
        self.best = 0.0
        self.collapsed = False
        self.doubted = False  # of the epoch before
        self._good: dict[str, dict[str, Tensor]] | None = None  # as a checkpoint has them
        self._batch: tuple | None = None

    def state_dict(self) -> dict:
        """The best accuracy so far, and the weights to go back to."""
        return {"best": self.best, "collapsed": self.collapsed, "doubted": self.doubted, "good": self._good}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take the watch up again.

        Raises:
            InputError: the weights to go back to are not finite.
        """
        good = state_dict["good"]
        if good and not isinstance(good.get("state_dict"), dict):
            good = {"state_dict": good}  # of a version that kept the weights alone, and no average of them
        for weights in (good or {}).values():
            check_finite(weights, "what the checkpoint keeps of the last good epoch")
        self.best, self.collapsed, self._good = state_dict["best"], state_dict["collapsed"], good
        self.doubted = state_dict.get("doubted", False)  # of a version that asked for a fall alone

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: tuple, batch_idx: int
    ) -> None:
        """Keep the last batch."""
        self._batch = batch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attack the last batch, and act on a collapse; all ranks decide alike."""
        if self._batch is None:  # a run that was interrupted behind the last batch of this epoch
            return
        image, label = self._batch[0], most_likely(as_truth(self._batch[1], len(self._batch[0])))
        with trainer.precision_plugin.forward_context():
            robust = ~self.attack.run(pl_module, image, label).success
        counts = torch.stack([robust.sum(), torch.tensor(len(robust), device=robust.device)])
        correct, total = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        accuracy = correct / total
        pl_module.log("train/guard/robust_accuracy", accuracy, sync_dist=True, batch_size=1)
        own = self._under_its_own_attack(trainer, pl_module)
        before, self.doubted = self.doubted, own is not None and self._is_far_below(own, accuracy)
        if accuracy < self.best - self.drop:
            why = f"robust accuracy on a training batch fell from {self.best:.1%} to {accuracy:.1%}"
            self._collapse(trainer, pl_module, why)
            return
        if self.doubted:
            if before:
                why = f"{own:.1%} of images withstand the training's own attack, {accuracy:.1%} of a batch the guard's"
                self._collapse(trainer, pl_module, why)
            return
        self.best = max(self.best, accuracy)
        if self.action == "restore":
            good = {"state_dict": pl_module.state_dict()}
            for averaging in _averagings(trainer):
                averaging.on_save_checkpoint(trainer, pl_module, good)
            self._good = {
                part: {name: value.detach().cpu().clone() for name, value in weights.items()}
                for part, weights in good.items()
            }

    def _is_far_below(self, own: float, accuracy: float) -> bool:
        return accuracy < min(own - self.drop, own / 4)

    def _under_its_own_attack(self, trainer: Trainer, pl_module: LightningModule) -> float | None:
        """What the training reports of this epoch, where its attack has had the guard's budget all through it."""
        objective = innermost(pl_module.objective) if isinstance(pl_module, ClassifierModule) else None
        if not isinstance(objective, AttackedObjective) or objective.judges != "robust" or objective.random_eps:
            return None
        own, guard = objective.attack, self.attack
        if own.eps is None or guard.eps is None or own.norm != guard.norm or not math.isclose(own.eps, guard.eps):
            return None
        if trainer.current_epoch < objective.warmup_epochs:
            return None
        return float(trainer.callback_metrics["train/robust_accuracy"])

    def _collapse(self, trainer: Trainer, pl_module: LightningModule, why: str) -> None:
        self.collapsed = True
        restored = self.action == "restore" and self._good is not None
        if restored:
            pl_module.load_state_dict(self._good["state_dict"])
            for averaging in _averagings(trainer):  # its average has seen the weights that are given up
                averaging.on_load_checkpoint(trainer, pl_module, self._good)
        rank_zero_warn(
            f"catastrophic overfitting in epoch {trainer.current_epoch + 1}: {why}; training stops"
            + (" with the weights of the last good epoch" if restored else "")
        )
        trainer.should_stop = True


def _averagings(trainer: Trainer) -> list[WeightAveraging]:
    return [each for each in trainer.callbacks if isinstance(each, WeightAveraging)]
