"""The base of all attacks: everything that is not the attack's own equation."""

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lightning_adv.asking import NO_CLASS, Classifier, logits_in_parts, predicted
from lightning_adv.asking.contract import label_range
from lightning_adv.attacks.ball import Norm
from lightning_adv.attacks.description import Described
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.labels import as_labels, as_truth, most_likely, refuse_no_distributions
from lightning_adv.attacks.losses import AttackLoss, cross_entropy, squared_error
from lightning_adv.attacks.noise import DeviceNoise, Noise, SampleNoise
from lightning_adv.attacks.randomised import judged_by_fresh_draws, warn_of_single_draws
from lightning_adv.attacks.result import AttackResult
from lightning_adv.attacks.trace import ModelMode, leaves_no_trace
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.pixels import check_images, check_pixels

__all__ = ["Attack"]


class Attack(Described, ABC):
    """Images that a classifier gets wrong, within a budget.

    A subclass is its hyperparameters and one method, :meth:`perturb`. What holds for every attack:

    - images are float in [0, 1], N x C x H x W; the result is float32 in [0, 1] and inside the budget;
    - the model, its gradients and BatchNorm statistics, and the global RNG are as before, also after an exception;
    - a sample's result does not depend on its batch: noise comes from (seed, index, restart);
    - it works inside ``inference_mode``, under autocast, with a compiled model;
    - a randomised model's verdicts in :meth:`run` are by fresh draws; its noise is drawn for a batch as a whole, so
      that results do depend on the batch.

    Three ways to call it: ``attack(model, x, y)`` returns the last iterate, :meth:`run` the best one found with its
    logits (evaluation), :meth:`craft` is for training objectives.

    Args:
        restarts: independent runs in :meth:`run`, each on the samples that survived the ones before.
        seed: of the noise in evaluation.

    Example:
        >>> class Brighten(Attack):
        ...     def perturb(self, goal, noise):
        ...         return (goal.x + 0.1).clamp(0, 1)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> Brighten().run(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2])).success.shape
        torch.Size([2])
    """

    loss: AttackLoss = staticmethod(cross_entropy)
    """What the gradients of :class:`Goal` raise."""

    shortest: Norm | None = None
    """Norm in which a minimal-norm attack looks for the nearest success; None for an attack with a fixed budget."""

    judges_itself: bool = False
    """``perturb`` looks at every image it makes and returns None: the best on record is the result."""

    aim: str | None = None
    """Rule by which the attack chooses a class, reaching which alone is success (``Targeted``); None for any error."""

    covers_ball: bool = False
    """Follows its loss's gradient to any point of its ball: where it fails, it is not for want of steps."""

    takes_shares: bool = False
    """Whether :meth:`craft` can give each image a budget of its own."""

    black_box: bool = False
    """Asks the model for answers only, never for a gradient."""

    draws: int = 1
    """Forwards of a randomised model that every loss, gradient and verdict averages over (see ``EOT``)."""

    eps: float | None = None
    """Length that a perturbation may have, in pixel units of [0, 1]; None for an attack without such a budget."""

    norm: Norm | Literal["L0"] | None = None
    """Norm in which ``eps`` is measured, or in which the nearest success is sought; None where several or none hold."""

    steps: int | None = None
    """Gradient steps of one run; None for an attack that takes none, or several kinds of them."""

    step_size: float | None = None
    """Length of a step, in pixel units of [0, 1]; None where it is not fixed."""

    low: bool = False
    """Searches in bfloat16 (see :meth:`lowered`)."""

    def __init__(self, restarts: int = 1, seed: int = 0) -> None:
        at_least_one(restarts=restarts)
        self.restarts, self.seed = restarts, seed

    @property
    def takes_probabilities(self) -> bool:
        """Whether :meth:`craft` can move away from probabilities [N, K], not from one label alone."""
        return self.loss in (cross_entropy, squared_error)

    @abstractmethod
    def perturb(self, goal: Goal, noise: Noise) -> Tensor | None:
        """The paper's algorithm: adversarial images for the samples that ``goal`` still pursues when it returns.

        None if the attack judges its own images (``judges_itself``).
        """

    def __call__(
        self, model: Classifier, x: Tensor, y: Tensor, *, target: Tensor | None = None, index: Tensor | None = None
    ) -> Tensor:
        """The last iterate of one run: [N, C, H, W] float32, without a forward to judge it.

        Args:
            model: images [N, C, H, W] to logits [N, K].
            x: images, float in [0, 1].
            y: [N] labels, or [N, K] probabilities to move away from where ``takes_probabilities``.
            target: [N] classes to reach instead of leaving the label.
            index: [N] the samples' numbers in their data set (noise is keyed by them); default 0 .. N - 1.

        Raises:
            InputError: images outside [0, 1], labels of the wrong shape, a target that equals its label.
        """
        if self.shortest is not None or self.judges_itself:  # the best image found need not be the last
            return self.run(model, x, y, target=target, index=index).images
        x, y, target = self._checked(x, y, target)
        with leaves_no_trace(model):
            goal = self._goal(model, *_owned(x, y, target))
            goal.labels = _range(y, target)
            return self.perturb(goal, self._noise(x, index, restart=0)).detach()

    def run(
        self, model: Classifier, x: Tensor, y: Tensor, *, target: Tensor | None = None, index: Tensor | None = None
    ) -> AttackResult:
        """Best adversarial image of each sample over all iterates and restarts, with its logits.

        One forward more than the attack itself, the one that judges the last iterate; samples that succeeded are
        dropped on the way. Arguments and errors as in calling the attack. What leaves the likeliest of probabilities
        has succeeded.

        A model that draws from the global generators, or answers the draws of ``EOT`` differently, is judged by the
        mean of fresh draws, and no sample is dropped. (One with a generator of its own shows only to ``EOT``.) The
        nearest image of a minimal-norm attack lies at the border, where fresh draws often call it right: it has then
        found nothing, and an attack with a budget says more of such a model.
        """
        x, y, target = self._checked(x, y, target)
        with leaves_no_trace(model):
            goal = self._goal(model, *_owned(x, y, target), keep_best=True)
            goal.labels = _range(y, target)
            first_success = torch.full((len(x),), -1, device=x.device)
            for restart in range(self.restarts):
                noise = self._noise(x, index, restart).select(goal.active)
                x_adv = self.perturb(goal, noise)
                if x_adv is not None and len(goal.active):
                    goal.logits(x_adv)
                first_success[goal.success & (first_success < 0)] = restart
                if restart + 1 < self.restarts:
                    goal.survivors()
                if not len(goal.active):
                    break
            images, logits, success = self._found(goal)
            first_success = torch.where(success, first_success, -1)
            result = AttackResult(images, logits, success, first_success, goal.zero_gradient)
            if goal.low and not goal.randomised:
                result = replace(_failures_asked_again(model, result, y, target), near=goal.near)
            if goal.randomised:
                if self.draws == 1:
                    warn_of_single_draws()
                result = judged_by_fresh_draws(model, result, most_likely(y), goal.reach)
            return result

    def craft(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        *,
        noise: Noise | None = None,
        mode: ModelMode = "eval",
        shares: Tensor | None = None,
    ) -> Tensor:
        """The last iterate for a training objective: no host sync, so on a GPU no checks; the device's generator.

        An attack that judges its own images returns the one of highest loss, and ends for no image before the others.

        Args:
            model: images to logits.
            x: images in [0, 1].
            y: [N] labels, or [N, K] probabilities to move away from.
            noise: default a generator on the device, seeded by the global CPU generator.
            mode: of the model while it is attacked; "train" uses batch statistics without updating them.
            shares: [N] of the budget that each image has, default all of it.

        Raises:
            InputError: probabilities for an attack that compares classes, shares for one that has no steps to shorten.
        """
        self._refuse_probabilities(y)
        if shares is not None and not self.takes_shares:
            raise InputError(f"{type(self).__name__} has one budget for all images; PGD, FGSM and APGD take one each")
        noise = noise or DeviceNoise()  # seeded out here: inside, the global RNG is put back and would repeat itself
        with leaves_no_trace(model, mode):
            goal = self._goal(model, *_owned(x, y, None), keep_best=self.judges_itself)
            goal.labels, goal.trains = label_range(y), self.shortest is None
            goal.shares = 1.0 if shares is None else shares.to(goal.x.device).clone().view(-1, 1, 1, 1)
            return self._made(goal, noise).detach()

    def for_goal(self, goal: Goal, noise: Noise) -> Tensor:
        """What this attack makes of the samples that another attack's ``goal`` pursues: for attacks made of attacks."""
        own = self._goal(goal.model, goal.x, goal.y, goal.target, keep_best=self.judges_itself)
        own.zero_gradient = torch.zeros(len(goal.x), dtype=torch.bool, device=goal.x.device)
        own.draws, own.shares = max(self.draws, goal.draws), goal.shares
        own.trains = goal.trains and self.shortest is None
        x_adv = self._made(own, noise)
        goal.zero_gradient[goal.active] |= own.zero_gradient
        return x_adv

    @property
    def members(self) -> dict[str, "Attack"]:
        """Attacks of an ensemble, by name and in turn; an attack by itself has none."""
        return {}

    @property
    def reaches(self) -> bool:
        """Whether success is a class that the attack itself chooses."""
        return self.aim is not None

    @property
    def has_budget(self) -> bool:
        """Whether there is a budget that :meth:`scaled` can multiply; without one a minimal norm is sought."""
        return self.eps is not None

    def scaled(self, factor: float) -> "Attack":
        """The same attack with its budget times ``factor`` (warm-up of eps, sweeps).

        Raises:
            InputError: an attack without a budget.
        """
        if not self.has_budget:
            raise InputError(f"{type(self).__name__} has no eps to scale")
        other = copy.copy(self)
        other.eps = self.eps * factor
        if self.step_size is not None:
            other.step_size = self.step_size * factor
        return other

    def raising(self, loss: AttackLoss) -> "Attack":
        """The same attack, whose gradients raise another loss."""
        other = copy.copy(self)
        other.loss = loss
        return other

    def lowered(self) -> "Attack":
        """The same attack, whose :meth:`run` searches in bfloat16 and proves what it finds in the model's precision.

        Its failures are those of that search: ``AttackResult.near`` says where rounding may have decided
        (``SearchLow`` searches again there).
        """
        other = copy.copy(self)
        other.low = True
        return other

    def _refuse_probabilities(self, y: Tensor) -> None:
        if y.dim() == 2 and not self.takes_probabilities:
            raise InputError(
                f"{type(self).__name__} moves away from one class and cannot move away from probabilities of shape "
                f"{tuple(y.shape)} (of mixup, or of TRADES): craft with PGD, FGSM or MIFGSM"
            )

    def _checked(self, x: Tensor, y: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images in [0, 1] to the last bit and classes in int64 or their probabilities, if they can be meant."""
        check_images(x)
        if len(x) == 0:
            raise InputError("the batch is empty: an attack needs at least one image")
        y = as_truth(y, len(x))
        self._refuse_probabilities(y)
        refuse_no_distributions(y)
        check_pixels(
            x,
            "normalise inside the model (backbones from create_model do), not in the datamodule; uint8 images are "
            "divided by 255 first",
        )
        x = x.clamp(0, 1)
        if target is None:
            return x, y, None
        target = as_labels(target, len(x), "targets")
        if bool((target == most_likely(y)).any()):
            raise InputError("a target equals its label: the attack would succeed without moving; choose another class")
        return x, y, target

    def _made(self, goal: Goal, noise: Noise) -> Tensor:
        x_adv = self.perturb(goal, noise)
        return self._found(goal)[0] if x_adv is None else x_adv

    def _found(self, goal: Goal) -> tuple[Tensor, Tensor, Tensor]:
        """Images, logits and success on record; a minimal-norm attack with a budget succeeds where it stays inside."""
        if self.shortest is None or self.eps is None:
            return goal.best, goal.best_logits, goal.success
        return goal.within(self.eps)

    def _goal(self, model: Classifier, x: Tensor, y: Tensor, target: Tensor | None, keep_best: bool = False) -> Goal:
        return Goal(model, x, y, target, keep_best, self.loss, self.shortest, self.draws, self.eps or 0.0, self.low)

    def _noise(self, x: Tensor, index: Tensor | None, restart: int) -> SampleNoise:
        index = torch.arange(len(x), device=x.device) if index is None else index.clone()
        if index.shape != (len(x),):
            raise InputError(f"index must be {len(x)} integers, one an image, got shape {tuple(index.shape)}")
        return SampleNoise(self.seed, index.to(x.device), restart)


def _owned(x: Tensor, y: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Copies made outside inference mode, which autograd accepts; images in float32, classes in int64."""
    y = y.clone() if y.is_floating_point() else y.to(torch.int64, copy=True)
    target = None if target is None else target.to(torch.int64, copy=True)
    return x.detach().to(torch.float32, copy=True), y, target


def _failures_asked_again(model: Classifier, result: AttackResult, y: Tensor, target: Tensor | None) -> AttackResult:
    """Logits and success of what a search in bfloat16 takes for failures, in the model's precision."""
    rows = (~result.success).nonzero().flatten()
    if not len(rows):
        return result
    logits = logits_in_parts(model, result.images[rows])
    said = predicted(logits)
    fooled = said != most_likely(y[rows]) if target is None else (said == target[rows]) | (said == NO_CLASS)
    return replace(
        result,
        logits=result.logits.index_copy(0, rows, logits),
        success=result.success.index_copy(0, rows, fooled),
        restart=result.restart.index_copy(0, rows, torch.where(fooled, 0, -1)),
    )


def _range(y: Tensor, target: Tensor | None) -> tuple[float, float] | None:
    """The least and the greatest of labels and targets, which the first answer must know. One host sync."""
    if y.dim() == 2:  # the loss compares them with the answer
        return None if target is None else _range(target, None)
    lowest, highest = torch.aminmax(y if target is None else torch.cat([y, target]))
    lowest, highest = torch.stack([lowest, highest]).tolist()
    return lowest, highest
