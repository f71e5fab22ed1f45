"""Evaluations cut down to what a number of minutes allows, and said so."""

from dataclasses import dataclass
from time import monotonic

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.seed import isolate_rng

from lightning_adv.asking import is_right
from lightning_adv.attacks import Attack
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.callbacks.attack_evaluation import AttackEvaluation
from lightning_adv.callbacks.backdoor_inspection import BackdoorInspection
from lightning_adv.errors import InputError
from lightning_adv.evaluation.logits import clean_logits
from lightning_adv.evaluation.pace import Pace, measure_pace, passes_of
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.inspectors import DeepInspect, NeuralCleanse

__all__ = ["TimeBudget"]

PLANNED = 0.8
"""Share of the time that is given away: what nobody foresees needs some."""
CLEAN, SEARCH, ATTACK = 0.05, 0.6, 0.35
"""Shares of the planned time: one pass over the images, inspectors, attacks."""
PILOT = 32
"""Images that the cheapest attack tries first: the dear ones cost most where images are robust."""
FEWEST = 100
"""Images below which a dear attack is left out, for an interval of 20 points says little."""
STEPS = 150
"""Looks at cost and stopping that a search needs; its images a step are cut before its steps are."""
SCORING = 1.3
"""What a search costs beside its steps, scoring included."""


@dataclass(frozen=True)
class _Measured:
    pace: Pace
    classes: int
    image: torch.Tensor  # [1, C, H, W]
    images: int  # that there are
    robust: float  # share of the pilot's images that the cheapest attack leaves


class TimeBudget(Callback):
    """Cuts inspections and attacks of ``test`` to a number of minutes, after it has timed the model on a batch.

    It only ever cuts: no evaluation gets more images or steps than it was given. Inspectors lose images of a step, then
    steps. Attacks lose images; if fewer than 100 would be left, the attack that costs most is left out. What was cut is
    in ``cuts``, and on the page of the report. The plan expects images to fall as they fall to the cheapest attack, so
    the time is a target, not a limit.

    Args:
        minutes: for the whole of ``test``; None cuts nothing.

    Raises:
        InputError: no time at all.
    """

    def __init__(self, minutes: float | None = 10.0) -> None:
        super().__init__()
        if minutes is not None and minutes <= 0:
            raise InputError(f"a budget must be above 0 minutes, got {minutes:g}")
        self.minutes, self.cuts = minutes, list[str]()
        self._begin = monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Measure and cut, before loaders and evaluations are set up."""
        if stage != "test" or self.minutes is None or trainer.fast_dev_run:
            return
        pl_module.to(trainer.strategy.root_device)
        evaluations = [each for each in trainer.callbacks if isinstance(each, AttackEvaluation)]
        searches = [each for each in trainer.callbacks if isinstance(each, BackdoorInspection)]
        cheapest = evaluations[0].attacks if evaluations else {}
        measured = trainer.strategy.broadcast(self._measure(trainer, pl_module, cheapest))
        whole = 60 * self.minutes
        left = PLANNED * max(whole / 2, whole - (monotonic() - self._begin)) * trainer.world_size  # counting took some
        left = trainer.strategy.broadcast(left)
        self._cut_pass(trainer, measured, CLEAN * left)
        search = left * (SEARCH if evaluations else SEARCH + ATTACK) / max(1, len(searches))
        spared = sum(self._cut_search(each, measured, search) for each in searches) if searches else SEARCH * left
        for each in evaluations:
            self._cut_attacks(each, measured, (ATTACK * left + spared) / len(evaluations))

    def _measure(self, trainer: Trainer, model: LightningModule, attacks: dict[str, Attack]) -> _Measured:
        loader = CombinedLoader(trainer.datamodule.test_dataloader()).flattened[0]
        with isolate_rng(), leaves_no_trace(model), torch.no_grad():
            share = Share(trainer, loader, None, PILOT, 0)
            batch = next(iter(share))
            pace = measure_pace(model, batch.image)
            classes = clean_logits(model, batch.image[:1]).shape[1]
            costs = _costs(attacks, _Measured(pace, classes, batch.image[:1], share.total, 1.0))
            robust = _left_by(attacks[min(costs, key=costs.get)], model, batch) if attacks else 1.0
        return _Measured(pace, classes, batch.image[:1], share.total, robust)

    def _cut_pass(self, trainer: Trainer, measured: _Measured, seconds: float) -> None:
        loader = CombinedLoader(trainer.datamodule.test_dataloader()).flattened[0]
        size = -(-measured.images // len(loader))
        allowed = max(1, int(seconds / measured.pace.forward / size))
        if allowed < len(loader) and trainer.limit_test_batches == 1.0:
            trainer.limit_test_batches = allowed
            self.cuts.append(f"images that are looked at at all: {measured.images:,} to {allowed * size:,}")

    def _cut_search(self, evaluation: BackdoorInspection, measured: _Measured, seconds: float) -> float:
        """Cut the steps of an inspection; the seconds that it does not need."""
        spared = 0.0
        for name, inspector in evaluation.inspectors.items():
            mine = seconds / len(evaluation.inspectors)
            if not isinstance(inspector, NeuralCleanse | DeepInspect):
                continue  # nobody knows what it costs
            allowed = int(mine / SCORING / measured.pace.both / measured.classes)  # images of one class, over all steps
            before = (inspector.steps, inspector.images_per_step)
            _shorten(inspector, allowed)
            if (inspector.steps, inspector.images_per_step) != before:
                after = f"{inspector.steps:,} steps of {inspector.images_per_step:,} images"
                self.cuts.append(f"{name}: {before[0]:,} steps of {before[1]:,} images to {after}")
            spent = inspector.steps * inspector.images_per_step
            spared += mine * max(0.0, 1 - spent / max(1, allowed))
        return spared

    def _cut_attacks(self, evaluation: AttackEvaluation, measured: _Measured, seconds: float) -> None:
        costs = _costs(evaluation.attacks, measured)
        there = min(measured.images, evaluation.max_samples or measured.images)
        while len(costs) > 1 and seconds / _expected(costs, measured.robust) < min(FEWEST, there):
            dearest = max(costs, key=costs.get)
            evaluation.leave_out(dearest)
            self.cuts.append(
                f"{evaluation.name}: {dearest} is left out, which takes {costs.pop(dearest):.3g} s for a robust image"
            )
        allowed = max(1, int(seconds / _expected(costs, measured.robust)))
        if allowed < there:
            evaluation.max_samples = allowed
            self.cuts.append(f"{evaluation.name}: {there:,} images to {allowed:,}")


def _costs(attacks: dict[str, Attack], measured: _Measured) -> dict[str, float]:
    """Seconds of each attack for an image that withstands it."""
    return {
        name: passes_of(attack, measured.image, measured.classes).seconds(measured.pace)
        for name, attack in attacks.items()
    }


def _expected(costs: dict[str, float], robust: float) -> float:
    """Seconds of an image under all attacks, where a share of them withstands the cheapest."""
    cheapest = min(costs.values())
    return sum(robust * cost + (1 - robust) * min(cost, 2 * cheapest) for cost in costs.values())


def _left_by(attack: Attack, model: LightningModule, batch: EvaluationBatch) -> float:
    """Share of images that stay correct, as far as few can tell; never 0 or 1."""
    right = is_right(clean_logits(model, batch.image), batch.label).nonzero().flatten()
    found = attack.run(model, batch.image[right], batch.label[right], index=batch.index[right]) if len(right) else None
    return (1 + (int((~found.success).sum()) if found else 0)) / (2 + len(batch.label))


def _shorten(inspector: NeuralCleanse | DeepInspect, allowed: int) -> None:
    """Fewer images a step, in whole minibatches, and no more steps than the images of one class allow."""
    inspector.batch_size = min(inspector.batch_size, inspector.images_per_step)
    if inspector.steps * inspector.images_per_step <= allowed:
        return
    minibatches = max(1, min(inspector.images_per_step, allowed // STEPS) // inspector.batch_size)
    inspector.images_per_step = minibatches * inspector.batch_size
    inspector.steps = max(1, min(inspector.steps, allowed // inspector.images_per_step))
