"""The pointwise worst case over several attacks (Tramèr and Boneh, 2019: "max" over perturbation types)."""

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from lightning_adv.asking import Classifier
from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.ball import Norm
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.labels import as_labels, as_truth, most_likely
from lightning_adv.attacks.losses import AttackLoss, margin
from lightning_adv.attacks.noise import Noise
from lightning_adv.attacks.randomised import judged_by_fresh_draws
from lightning_adv.attacks.result import AttackResult, Stage
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.attacks.watching import announce_stage, part
from lightning_adv.errors import InputError

__all__ = ["WorstOf"]

_T = TypeVar("_T")


class WorstOf(Attack):
    """Several attacks in turn, each on the samples that survived the ones before; the best image of each sample.

    A sample counts as broken where any attack breaks it, which a mean over attacks hides. Each attack keeps its own
    budget, restarts and seed. In training every attack sees every image, once, and the highest loss wins.

    Args:
        attacks: the attacks by name, or a list (named by class), cheapest first.

    Raises:
        InputError: no attack, or a minimal-norm attack without eps, which succeeds at any distance.

    Example:
        >>> from lightning_adv.attacks import FGSM, PGD
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> worst = WorstOf([FGSM(eps=0.1), PGD(eps=1.0, norm="L2")])
        >>> (worst.run(model, x, y).success >= FGSM(eps=0.1).run(model, x, y).success).all()
        tensor(True)
    """

    judges_itself = True

    def __init__(self, attacks: dict[str, Attack] | list[Attack]) -> None:
        super().__init__()
        self.attacks = _named(attacks) if isinstance(attacks, list) else dict(attacks)
        if not self.attacks:
            raise InputError("WorstOf needs at least one attack, got none")
        for name, attack in self.attacks.items():
            if attack.shortest is not None and not attack.has_budget:
                raise InputError(f"attack {name} has no budget and succeeds at any distance; give it eps")

    @property
    def members(self) -> dict[str, Attack]:
        """The attacks."""
        return self.attacks

    @property
    def eps(self) -> float | None:
        """That of all the attacks; None where they have several budgets, each of which can be scaled."""
        return self._budget[0]

    @property
    def norm(self) -> Norm | Literal["L0"] | None:
        """That of all the attacks."""
        return self._budget[1]

    @property
    def has_budget(self) -> bool:
        """Whether every attack has one."""
        return all(attack.has_budget for attack in self.attacks.values())

    @property
    def aim(self) -> str | None:
        """That of all the attacks; where one of them takes any error, so does the ensemble."""
        return _shared(attack.aim for attack in self.attacks.values())

    @property
    def draws(self) -> int:
        """The fewest of any attack."""
        return min(attack.draws for attack in self.attacks.values())

    @property
    def black_box(self) -> bool:
        """Whether no attack asks for a gradient."""
        return all(attack.black_box for attack in self.attacks.values())

    def run(
        self, model: Classifier, x: Tensor, y: Tensor, *, target: Tensor | None = None, index: Tensor | None = None
    ) -> AttackResult:
        """Best adversarial image of each sample over all attacks, with its logits.

        No forward beyond those of the attacks, but for a randomised model: every further attack is another chance of a
        lucky draw, so that the outcome of all is judged again. ``restart`` is that of the attack that broke the sample.
        Arguments and errors as in calling the attack.
        """
        y, target = as_truth(y, len(x)), None if target is None else as_labels(target, len(x), "targets")
        (name, first), *others = self.attacks.items()
        worst, stage = _staged(name, first, model, x, y, target, index)
        stages = [stage]
        with torch.inference_mode(False), torch.no_grad():
            index = self._noise(x, index, restart=0).index
            score = _score(first, worst, y, target)
            for name, attack in others:
                left = (~worst.success).nonzero().flatten()
                if not len(left):
                    break
                aim = None if target is None else target[left]
                found, stage = _staged(name, attack, model, x[left], y[left], aim, index[left])
                stages.append(stage)
                reached = _score(attack, found, y[left], aim)
                worst = _worse(worst, found, left, better=found.success | (reached > score[left]))
                score[left] = torch.maximum(reached, score[left])
        if worst.draws > 1:
            with leaves_no_trace(model):
                worst = judged_by_fresh_draws(model, worst, most_likely(y), reach=target is not None or self.reaches)
        return replace(worst, stages=tuple(stages))

    @property
    def takes_probabilities(self) -> bool:
        """Where all the attacks do."""
        return all(attack.takes_probabilities for attack in self.attacks.values())

    @property
    def takes_shares(self) -> bool:
        """Where all the attacks do."""
        return all(attack.takes_shares for attack in self.attacks.values())

    def scaled(self, factor: float) -> "WorstOf":
        """The same attacks, each with its budget times ``factor``.

        Raises:
            InputError: an attack without a budget.
        """
        return self.each(lambda attack: attack.scaled(factor))

    def raising(self, loss: AttackLoss) -> "WorstOf":
        """The same attacks, whose gradients raise another loss."""
        other = self.each(lambda attack: attack.raising(loss))
        other.loss = loss
        return other

    def lowered(self) -> "WorstOf":
        """The same attacks, which search in bfloat16."""
        return self.each(lambda attack: attack.lowered())

    def each(self, change: Callable[[Attack], Attack]) -> "WorstOf":
        """The same ensemble of its attacks, each of them changed."""
        other = copy.copy(self)
        other.attacks = {name: change(attack) for name, attack in self.attacks.items()}
        return other

    def perturb(self, goal: Goal, noise: Noise) -> None:
        """Every attack on every sample that ``goal`` pursues: for training, and inside other attacks."""
        everyone = torch.arange(len(goal.x), device=goal.x.device)
        for attack in self.attacks.values():
            goal.logits(attack.for_goal(goal, noise.select(everyone)))

    @property
    def _budget(self) -> tuple[float | None, Norm | Literal["L0"] | None]:
        return _shared((attack.eps, attack.norm) for attack in self.attacks.values()) or (None, None)


def _staged(
    name: str, attack: Attack, model: Classifier, x: Tensor, y: Tensor, target: Tensor | None, index: Tensor | None
) -> tuple[AttackResult, Stage]:
    """What one of the attacks finds, and what it takes."""
    began = time.perf_counter()
    with part(name):
        found = attack.run(model, x, y, target=target, index=index)
    stage = Stage(name, len(x), int(found.success.sum()), time.perf_counter() - began)
    announce_stage(stage)
    return found, stage


def _shared(values: Iterable[_T]) -> _T | None:
    """The value that all are, None where there are several."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _named(attacks: list[Attack]) -> dict[str, Attack]:
    """By class, the second of a class as ``PGD_2``."""
    named: dict[str, Attack] = {}
    for attack in attacks:
        kind = type(attack).__name__
        count = sum(type(other) is type(attack) for other in named.values())
        named[f"{kind}_{count + 1}" if count else kind] = attack
    return named


def _score(attack: Attack, result: AttackResult, y: Tensor, target: Tensor | None) -> Tensor:
    """Margin of each result [N], one measure for all attacks; the failure of a minimal-norm attack is no finding."""
    score = margin(result.logits, most_likely(y), target)
    return score if attack.shortest is None else torch.where(result.success, score, -torch.inf)


def _worse(worst: AttackResult, found: AttackResult, left: Tensor, better: Tensor) -> AttackResult:
    """``worst`` with what was ``found`` for the samples ``left``, where it is ``better``."""

    def merged(old: Tensor, new: Tensor) -> Tensor:
        chosen = better.view(-1, *[1] * (new.dim() - 1))
        return old.index_copy(0, left, torch.where(chosen, new, old[left]))

    images, logits = merged(worst.images, found.images), merged(worst.logits, found.logits)
    success, restart = merged(worst.success, found.success), merged(worst.restart, found.restart)
    suspect = _either(worst.zero_gradient, found.zero_gradient, left)
    draws = max(worst.draws, found.draws)
    near = worst.near if found.near is None else _either(worst.near, found.near, left)
    verdict = {"success": success, "restart": restart, "zero_gradient": suspect, "draws": draws, "near": near}
    return replace(worst, images=images, logits=logits, **verdict)


def _either(worst: Tensor, found: Tensor, left: Tensor) -> Tensor:
    """[N] what is so of all the samples, or is ``found`` of those ``left``."""
    return worst.index_copy(0, left, worst[left] | found)
