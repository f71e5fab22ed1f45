"""Evaluations cut down to what a number of minutes allows, and said so."""

from time import monotonic

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.seed import isolate_rng

from lightning_adv.asking import is_right, logits_in_parts
from lightning_adv.attacks import Attack
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.callbacks.attack_evaluation import AttackEvaluation
from lightning_adv.callbacks.backdoor_inspection import BackdoorInspection
from lightning_adv.errors import InputError
from lightning_adv.evaluation.allotment import Allotment, Part
from lightning_adv.evaluation.order import do_without
from lightning_adv.evaluation.pace import Pace, measure_pace, passes_of
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.inspectors import DeepInspect, Inspector, NeuralCleanse
from lightning_adv.interruption import seconds_since_start

__all__ = ["TimeBudget"]

CLEAN, ATTACKS = 0.05, 0.35
"""Shares of the time: one pass over the images, an attack evaluation."""
SEARCHES = {NeuralCleanse: 0.4, DeepInspect: 0.2}
"""Shares of inspectors."""
LEAST = 0.05
"""Share of the time that is given away when none is left, so that what was begun has something to show."""
QUICKEST_END, LARGEST_END = 4.0, 0.15
"""Least seconds, and largest share of the time, for pictures and page; between the two, twice what imports and parsing
have taken on this machine."""
SCORING = 0.15
"""Share of a search's time in which its triggers are tried on all images."""
STEPS = 300
"""Steps of a search whose images are cut before its steps are. Neural Cleanse on small networks of MNIST and
Fashion-MNIST: with steps of one minibatch searches end by themselves after 150 to 300 of them, and the verdict is as
right as with steps of eight."""
SMALL = 16
"""Images of a minibatch where even so the steps are too few: as right there as 32, while 8 miss many a backdoor."""
FEWEST_STEPS = {NeuralCleanse: 20, DeepInspect: 100}
"""Steps below which a search is left out. Neural Cleanse needs 75, but a machine that was busy may turn out faster."""
MEASURED, PILOT = 128, 32
"""Images that the model is timed on, and that the cheapest attack tries: dear ones cost most where they are robust."""
TRYING = 0.1
"""Share of an evaluation's time that the pilot may take."""
FEWEST = 100
"""Images below which a dear attack is left out, for an interval of 20 points says little."""
FIRST, GROWTH, WORTHWHILE = 8, 4, 0.1
"""Fewest images of a first stretch of attacks, how many times as many the next may make them, the least share more."""


class TimeBudget(Callback):
    """Keeps the inspections and attacks of ``test`` within a number of minutes, and says what that has cost.

    It only ever cuts: no evaluation gets more images or steps than it was given. Each gets a share of the time that is
    left when it begins and ends when that is over, so that a machine that becomes busy makes searches shorter and
    images fewer, not the run longer. A search is left out where it would not get far enough to find anything, the
    attack that costs most where fewer than 100 images would be left. What was cut is in ``cuts``, and on the page of
    the report.

    Args:
        minutes: for the whole run, imports and report included; None cuts nothing.

    Raises:
        InputError: no time at all; a trainer without a datamodule.
    """

    clock = staticmethod(monotonic)
    """Seconds."""

    def __init__(self, minutes: float | None = 10.0) -> None:
        super().__init__()
        if minutes is not None and minutes <= 0:
            raise InputError(f"a budget must be above 0 minutes, got {minutes:g}")
        self.minutes, self.cuts = minutes, list[str]()
        self._begin = self.clock() - seconds_since_start()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Measure the model and hand out shares, before loaders and evaluations are set up."""
        if stage != "test" or self.minutes is None or trainer.fast_dev_run:
            return
        if trainer.datamodule is None:
            raise InputError("TimeBudget times the model on images of a datamodule: give the trainer one")
        whole, opening = 60 * self.minutes, self.clock() - self._begin
        left = whole - opening - min(LARGEST_END * whole, max(QUICKEST_END, 2 * opening))
        allotment = Allotment(max(LEAST * whole, left), LEAST * whole, self.clock)
        pass_, searches = allotment.part(CLEAN), []
        for each in trainer.callbacks:
            if isinstance(each, BackdoorInspection):
                searches += [(each, name, allotment.part(_share(each.inspectors[name]))) for name in each.inspectors]
            elif isinstance(each, AttackEvaluation):
                each.grow = _Growth(each, pl_module, allotment.part(ATTACKS), self.cuts)
        pl_module.to(trainer.strategy.root_device)
        # All ranks cut alike, by the clock of the first one.
        images, pace, classes = trainer.strategy.broadcast(_measure(trainer, pl_module))
        self._cut_pass(trainer, images, pace, trainer.strategy.broadcast(pass_.planned))
        for evaluation, name, part in sorted(searches, key=lambda each: each[2].share):  # its time may be another's
            planned = trainer.strategy.broadcast(part.planned)
            self._cut_search(evaluation, name, part, planned, pace.both * classes / trainer.world_size)
            if not evaluation.inspectors:
                do_without(trainer, evaluation)

    def _cut_pass(self, trainer: Trainer, images: int, pace: Pace, seconds: float) -> None:
        loader = CombinedLoader(trainer.datamodule.test_dataloader()).flattened[0]
        size = -(-images // len(loader))
        allowed = max(1, int(seconds * trainer.world_size / pace.forward / size))
        if allowed < len(loader) and trainer.limit_test_batches == 1.0:
            trainer.limit_test_batches = allowed
            self.cuts.append(f"images that are looked at at all: {images:,} to {allowed * size:,}")

    def _cut_search(self, evaluation: BackdoorInspection, name: str, part: Part, planned: float, cost: float) -> None:
        """Have a search end with its time, in steps of as many images as leave it enough of them.

        Args:
            evaluation: that the search is of.
            name: of the inspector.
            part: its time.
            planned: seconds of it that it will get.
            cost: seconds of an image that goes to every class and back.
        """
        inspector = evaluation.inspectors[name]
        if not isinstance(inspector, NeuralCleanse | DeepInspect):
            return
        before = inspector.images_per_step
        size = inspector.batch_size = min(inspector.batch_size, before)
        images = int(planned * (1 - SCORING) / cost)  # over all steps
        if images < inspector.steps * before:
            if images < STEPS * size and isinstance(inspector, NeuralCleanse):
                size = inspector.batch_size = min(SMALL, size)
            inspector.images_per_step = size * max(1, min(before, images // STEPS) // size)
        fewest = next(steps for kind, steps in FEWEST_STEPS.items() if isinstance(inspector, kind))
        if images < min(fewest, inspector.steps) * size:
            del evaluation.inspectors[name]
            part.share = 0.0
            self.cuts.append(f"{name} is left out: time for {images // size} steps, of {fewest} or more that it needs")
            return
        if inspector.images_per_step < before:
            self.cuts.append(f"{name}: {before:,} images of a step to {inspector.images_per_step:,}")
        inspector.over = _Watch(name, inspector.steps, part, self.cuts)


class _Watch:
    """Tells a search when its time is over."""

    def __init__(self, name: str, steps: int, part: Part, cuts: list[str]) -> None:
        self.name, self.steps, self.part, self.cuts = name, steps, part, cuts

    def __call__(self, done: float) -> float:
        if not done:
            self.part.begin()
        over = self.part.over / (1 - SCORING)
        if over >= 1:
            self.cuts.append(f"{self.name}: {self.steps:,} steps to {round(done * self.steps):,}")
        return max(done, over)


class _Growth:
    """Lets the images of an attack evaluation become more as long as its time allows, by the pace of the last ones."""

    def __init__(self, evaluation: AttackEvaluation, model: LightningModule, part: Part, cuts: list[str]) -> None:
        self.evaluation, self.model, self.part, self.cuts = evaluation, model, part, cuts
        self.done, self.spent = 0, 0.0  # before the stretch that has ended

    def __call__(self, done: int, images: Share) -> int:
        if not done:
            self.part.begin()
            # Not too few: their passes may take as long as those of many.
            more = min(MEASURED, max(FIRST, self._affordable(images) // GROWTH))
        else:
            pace = (self.part.spent - self.spent) / (done - self.done)
            more = done + min((GROWTH - 1) * done, int((self.part.seconds - self.part.spent) / pace))
        self.done, self.spent = done, self.part.spent
        more = min(more, images.total)
        if more == images.total or more >= (1 + WORTHWHILE) * done:
            return more
        self.cuts.append(f"{self.evaluation.name}: {images.total:,} images to {done:,}")
        return done

    def _affordable(self, images: Share) -> int:
        """How many images the time seems to allow, without the attacks that cost most where they leave too few."""
        trainer = images.trainer
        fewest = min(FEWEST, images.total)
        seconds = trainer.strategy.broadcast(self.part.seconds) * trainer.world_size
        mine = self._costs(images, seconds / fewest) if trainer.is_global_zero else None
        costs, robust = trainer.strategy.broadcast(mine)
        while len(costs) > 1 and seconds / _expected(costs, robust) < fewest:
            dearest = max(costs, key=costs.get)
            self.evaluation.leave_out(dearest)
            takes = f"takes {costs.pop(dearest):.2g} s or more for a robust image"
            self.cuts.append(f"{self.evaluation.name}: {dearest} is left out, which {takes}")
        return int(seconds / _expected(costs, robust))

    def _costs(self, images: Share, affordable: float) -> tuple[dict[str, float], float]:
        """Seconds of each attack for an image that withstands it, and the share that withstands the cheapest.

        What costs more than is affordable for the fewest robust images there can be is counted no further.
        """
        attacks = self.evaluation.attacks
        with isolate_rng(), leaves_no_trace(self.model), torch.no_grad():
            batch = next(iter(images.fewer(PILOT)))
            pace = measure_pace(self.model, batch.image)
            classes = logits_in_parts(self.model, batch.image[:1]).shape[1]
            most = int(affordable * (2 + PILOT) / pace.forward)
            costs = {
                name: passes_of(attack, batch.image[:1], classes, most).seconds(pace)
                for name, attack in attacks.items()
            }
            cheapest = min(costs, key=costs.get)
            few = max(1, int(TRYING * self.part.seconds / costs[cheapest]))
            batch = EvaluationBatch(batch.image[:few], batch.label[:few], batch.index[:few])
            return costs, _left_by(attacks[cheapest], self.model, batch)


def _share(inspector: Inspector) -> float:
    """Of the time; 0 for an inspector of which nobody knows what it costs: it takes what it takes."""
    return next((share for kind, share in SEARCHES.items() if isinstance(inspector, kind)), 0.0)


def _measure(trainer: Trainer, model: LightningModule) -> tuple[int, Pace, int]:
    """How many images there are, the pace of the model, and its classes."""
    loader = CombinedLoader(trainer.datamodule.test_dataloader()).flattened[0]
    with isolate_rng(), leaves_no_trace(model), torch.no_grad():
        share = Share(trainer, loader, None, MEASURED, 0)
        image = next(iter(share)).image
        return share.total, measure_pace(model, image), logits_in_parts(model, image[:1]).shape[1]


def _expected(costs: dict[str, float], robust: float) -> float:
    """Seconds of an image under all attacks, where a share of them withstands the cheapest."""
    cheapest = min(costs.values())
    return sum(robust * cost + (1 - robust) * min(cost, 2 * cheapest) for cost in costs.values())


def _left_by(attack: Attack, model: LightningModule, batch: EvaluationBatch) -> float:
    """Share of images that stay correct, as far as few can tell; never 0 or 1."""
    right = is_right(logits_in_parts(model, batch.image), batch.label).nonzero().flatten()
    found = attack.run(model, batch.image[right], batch.label[right], index=batch.index[right]) if len(right) else None
    return (1 + (int((~found.success).sum()) if found else 0)) / (2 + len(batch.label))
