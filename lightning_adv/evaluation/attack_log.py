"""What a person who watches an evaluation reads of its attacks: what is left as each of them ends."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pytorch_lightning import Trainer
from torch import Tensor

from lightning_adv.attacks import Stage
from lightning_adv.attacks.watching import Watcher, part, watched_by
from lightning_adv.evaluation.progress import SECONDS, say, tells, track
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.results.shares import percent

__all__ = ["AttackLog"]


@dataclass
class _Account:
    """Of one attack, over the batches that came so far."""

    images: int = 0
    robust: int = 0
    seconds: float = 0.0
    stages: dict[str, int] = field(default_factory=dict)
    """Images that withstand each stage and those before it."""
    whole: bool = True
    """Whether all images went through the stages here: verdicts of an earlier process do not name theirs."""


class AttackLog(Watcher):
    """A line as each attack, and each stage of an ensemble, is done with the last batch.

    Attacks take a batch in turn, as verdicts are kept and shared out batch by batch. What a line says is of all images
    up to it. Ranks take over each other's batches, so that none knows its last one: with several the lines come at the
    end, and are of the images of the first rank. In ``fit``, where an epoch has a line of its own, only attacks that
    take long have one.

    Args:
        trainer: that prints them if it has a callback that tells.
        attacks: their names.
        unlimited: names of those that have no budget, which succeed at any distance.
    """

    def __init__(self, trainer: Trainer, attacks: Collection[str], unlimited: Collection[str] = ()) -> None:
        self.trainer, self.unlimited = trainer, unlimited
        self.accounts = {name: _Account() for name in attacks}
        self._tells, self._alone = tells(trainer), trainer.world_size == 1
        self._expected = self._batch = self._correct = 0
        self._began = 0.0
        self._stages: list[Stage] = []
        self._said: set[tuple[str, str]] = set()

    def over(self, images: Share, title: str) -> Iterator[EvaluationBatch]:
        """Iterate, under a bar, over images that come after those before."""
        self._expected += len(images.index)
        self._said.clear()
        for batch in track(self.trainer, images, title, so_far=self._so_far):
            self._batch = len(batch.label)
            yield batch
        for name, account in self.accounts.items():
            self._say(name, account)

    @contextmanager
    def attack(self, name: str, correct: Tensor, robust: Tensor) -> Iterator[None]:
        """Inside, an attack works on a batch.

        Args:
            name: of the attack.
            correct: [N] whether an image is recognised.
            robust: [N] whether it still is under the attack, written inside.
        """
        account, self._began = self.accounts[name], time.monotonic()
        account.images += self._batch
        self._correct, self._stages = int(correct.sum()), []
        with watched_by(self), part(name):
            yield
        account.robust += int(robust.sum())
        account.seconds += time.monotonic() - self._began
        account.whole &= self._is_whole()
        if self._is_last(account):
            self._say(name, account)

    def stage_ended(self, place: tuple[str, ...], stage: Stage) -> None:
        """Count it, and say so if that was its last batch."""
        if len(place) != 1:
            return  # of an ensemble inside one
        account = self.accounts[place[0]]
        self._stages.append(stage)
        account.stages[stage.name] = account.stages.get(stage.name, 0) + stage.attacked - stage.broken
        if self._is_last(account) and account.whole and self._is_whole():
            self._say_stage(place[0], account, stage.name, account.seconds + time.monotonic() - self._began)

    def _is_whole(self) -> bool:
        """Whether the first stage had all images of the batch that there are to attack."""
        return sum(stage.attacked for stage in self._stages[:1]) == self._correct

    def _is_last(self, account: _Account) -> bool:
        return self._alone and account.images == self._expected

    def _say(self, name: str, account: _Account) -> None:
        """What has not been said of an attack; stages that had nothing left in the last batch among it."""
        for stage in account.stages if account.whole else ():
            self._say_stage(name, account, stage, account.seconds)
        found = f"{percent(account.robust / account.images)} of" if account.images else ""
        if name in self.unlimited:
            found = f"no misclassified image for {account.robust:,} of"
        self._line(name, "", f"{name}: {found} {self._images(account)}", account.seconds)

    def _say_stage(self, name: str, account: _Account, stage: str, seconds: float) -> None:
        left = percent(account.stages[stage] / account.images)
        self._line(name, stage, f"{name} after {stage}: {left} of {self._images(account)}", seconds)

    def _images(self, account: _Account) -> str:
        return f"{account.images:,} images" + ("" if self._alone else " of this process")

    def _line(self, name: str, stage: str, text: str, seconds: float) -> None:
        long = self.trainer.state.fn != "fit" or seconds >= SECONDS
        if self._tells and long and self.accounts[name].images and (name, stage) not in self._said:
            self._said.add((name, stage))
            say(self.trainer, f"{text} ({seconds:.1f} s)")

    def _so_far(self) -> str:
        """Figures of the images that are done with, for attacks that have some."""
        shares = [(name, a) for name, a in self.accounts.items() if a.images and name not in self.unlimited]
        return "".join(f"; {name} {percent(a.robust / a.images)}" for name, a in shares)
