"""The base of all mitigations: what holds for every way of taking a backdoor out of a model."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import is_right, logits_of, looks_like_probabilities
from lightning_adv.attacks.description import settings_of
from lightning_adv.errors import InputError
from lightning_adv.inspectors.inspector import Images
from lightning_adv.inspectors.suspect import CleanImages, Suspect, check_classes, shuffled_minibatches
from lightning_adv.mitigations.channels import Pruning, Tried, prune

__all__ = ["Mitigation", "MitigationReport", "Repair"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of a batch of images [B, C, H, W] and labels [B]."""

MOMENTUM = 0.9
FAR = 0.1
"""Clean accuracy lost, from which on no threshold is tried any more."""

DROP = 0.02
"""Clean accuracy that a rate of fine-tuning may cost where it is chosen, a share of the held-out images."""

CLIPPED = 1.0
"""Norm of a step's gradient after fine-tuning has diverged; a trigger's own gradient, which unlearning is after, is
the longest of all, so nothing is clipped before."""


@dataclass(frozen=True)
class Repair:
    """What a mitigation did to a model, beside fine-tuning it.

    Args:
        prunings: layers that were looked at, each with the channels that are zero; a layer may have none.
        threshold: of pruning, the one that was chosen; None where nothing is pruned.
        tried: thresholds from the mildest on, whether chosen or not.
        unlearnt: classes whose reconstructed triggers were unlearnt.
        lr: of fine-tuning, where held-out clean images chose it.
        rates: that were tried for it, each with the held-out clean images that are classified correctly then.
        warnings: what a reader must know.

    Example:
        >>> Repair((Pruning("conv", 8, (3, 1), ("conv.weight",)),), threshold=2.0).pruned
        2
    """

    prunings: tuple[Pruning, ...] = ()
    threshold: float | None = None
    tried: tuple[Tried, ...] = ()
    unlearnt: tuple[int, ...] = ()
    lr: float | None = None
    rates: tuple[tuple[float, int], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """How many the layers have."""
        return sum(each.channels for each in self.prunings)

    @property
    def pruned(self) -> int:
        """How many of them are zero."""
        return sum(len(each.pruned) for each in self.prunings)


@dataclass(frozen=True)
class MitigationReport:
    """Clean accuracy before and after a mitigation, on clean images that it did not train on.

    Args:
        mitigation: its class and settings in one line.
        tuned_on: clean images that the model was fine-tuned on.
        held_out: clean images that accuracy was measured on.
        correct_before, correct_after: of them.
        repair: what else was done.

    Example:
        >>> MitigationReport("FinePruning()", 80, 20, 19, 18, Repair()).clean_accuracy_after
        0.9
    """

    mitigation: str
    tuned_on: int
    held_out: int
    correct_before: int
    correct_after: int
    repair: Repair

    @property
    def clean_accuracy_before(self) -> float:
        """Share of the held-out images."""
        return self.correct_before / self.held_out

    @property
    def clean_accuracy_after(self) -> float:
        """Share of the held-out images."""
        return self.correct_after / self.held_out


class Mitigation(ABC):
    """Repairs a classifier that may have a backdoor, with a few clean images and their labels.

    A subclass is its hyperparameters and :meth:`repair`. What holds for every mitigation: any module from images in
    [0, 1] to logits will do, and of one that answers with probabilities the logarithm is taken, whose cross-entropy is
    theirs; its weights are changed in place, and nothing else of it or of the global RNG; frozen parameters stay as
    they are; it computes in float32 and in eval mode, so dropout is off and BatchNorm keeps its
    statistics; the result is a function of model, images and seed. Methods differ in their loss: the loop that
    minimises it is one (:meth:`descend`), and so is the choice of how much is pruned (:meth:`prune`). Fine-tuning is
    SGD with momentum .9; where it leaves fewer of its own images classified correctly than before, it has diverged, and
    is done again from the same weights with gradients clipped to norm 1, which the report says.

    No rate suits all networks: one that does the first no harm costs the second a sixth of its clean accuracy, and the
    images it learns from do not show it, for they are learnt again. Without ``lr``, the first of ``rates`` is taken
    that costs no more than .02 of the held-out clean accuracy, or else the one that costs least; the attack has no say.

    Args:
        epochs: of fine-tuning.
        lr: of fine-tuning; falls to 0 along a cosine. None: it is chosen.
        batch_size: images of a step.
        held_out: share of the clean images that accuracy is measured on, and rate or threshold chosen by; no weight
            learns from them.
        seed: of all random numbers.

    Raises:
        InputError: numbers that cannot be meant; in a call, images without labels or fewer than two.

    Example:
        >>> class Confidence(Mitigation):
        ...     def repair(self, model, images, held_out):
        ...         return Repair(warnings=self.fine_tune(model, images, lambda x, y: -model(x).amax(dim=1).mean()))
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> images = [(torch.rand(20, 1, 2, 2), torch.arange(20) % 3)]
        >>> Confidence(epochs=1, lr=0.1, batch_size=8)(model, images).held_out
        4
    """

    weight_decay = 0.0

    rates: ClassVar[tuple[float, ...]] = (0.01, 0.003, 0.001, 0.0003)
    """To choose from: that of the papers, then gentler ones."""

    def __init__(
        self, epochs: int = 10, lr: float | None = 0.02, batch_size: int = 32, held_out: float = 0.2, seed: int = 0
    ) -> None:
        name = type(self).__name__
        if epochs < 0 or batch_size < 1 or (lr is not None and lr <= 0) or not 0 < held_out < 1:
            raise InputError(
                f"{name} needs epochs >= 0, batch_size >= 1, lr above 0 or none, and held_out in (0, 1), "
                f"got {epochs}, {batch_size}, {lr} and {held_out}"
            )
        self.epochs, self.lr, self.batch_size, self.held_out, self.seed = epochs, lr, batch_size, held_out, seed

    @abstractmethod
    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """The paper's algorithm: change the model's weights; it is in eval mode and gradients are on."""

    def prepared(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> "Mitigation":
        """The mitigation that knows what need not be found out again at every rate; the weights are put back."""
        return self

    def __call__(self, model: nn.Module, images: Images) -> MitigationReport:
        """Repair the model in place.

        Args:
            model: images [N, C, H, W] in [0, 1] to logits [N, K].
            images: batches (image, label, ...) of clean images, float in [0, 1] (uint8 is divided by 255).

        Raises:
            InputError: no labels, labels that the model does not know, fewer than two images, no trainable weight.
        """
        if not isinstance(model, nn.Module) or not any(p.requires_grad for p in model.parameters()):
            raise InputError(f"{type(self).__name__} changes weights, and the model has none that may be trained")
        with changes_weights_only(model):
            clean = CleanImages.of(images, model)
            if clean.label is None or len(clean.image) < 2:
                raise InputError(
                    f"{type(self).__name__} needs clean images with labels, at least two: batches (image, label, ...)"
                )
            check_classes(clean.label, Suspect(model).classes(clean.image[:1]), allow_missing=True)
            tuned, held_out = self._split(clean)
            with answers_logits(model, clean.image[:64]):
                before = correct(model, held_out)
                repair = (self._at_a_rate if self.lr is None else self.repair)(model, tuned, held_out)
                after = correct(model, held_out)
        return MitigationReport(repr(self), len(tuned.image), len(held_out.image), before, after, repair)

    def fine_tune(
        self,
        model: nn.Module,
        images: CleanImages,
        loss: Loss | None = None,
        after_step: Callable[[], None] = lambda: None,
    ) -> tuple[str, ...]:
        """Minimise a loss on the images; once more with clipped gradients if that diverges.

        Args:
            model: changed in place.
            images: with labels.
            loss: default the cross-entropy of the model.
            after_step: called after every step, e.g. to keep pruned weights at 0.

        Returns:
            What a reader must know of it, for :class:`Repair`.
        """
        loss = loss or (lambda x, y: F.cross_entropy(logits_of(model, x), y))
        weights = [p for p in model.parameters() if p.requires_grad]
        start, at_first = [p.detach().clone() for p in weights], correct(model, images)
        self.descend(self.optimizer(weights), images, loss, after_step=after_step)
        if (diverged := correct(model, images)) >= at_first:
            return ()
        _put_back(weights, start)
        self.descend(self.optimizer(weights), images, loss, after_step=after_step, longest=CLIPPED)
        told = (
            f"fine-tuning at lr {self.lr:g} diverged ({diverged} of its {len(images.image)} images right, "
            f"{at_first} before): done again with gradients clipped to norm {CLIPPED:g}"
        )
        if (again := correct(model, images)) < at_first:
            told += f", which diverges too ({again} right): take a smaller lr"
        return (told,)

    def optimizer(self, weights: Sequence[Tensor]) -> torch.optim.Optimizer:
        """What follows the gradients."""
        return torch.optim.SGD(weights, self.lr, momentum=MOMENTUM, weight_decay=self.weight_decay)

    def descend(
        self,
        optimizer: torch.optim.Optimizer,
        images: CleanImages,
        loss: Loss,
        steps: int | None = None,
        after_step: Callable[[], None] = lambda: None,
        longest: float = math.inf,
        falling: bool = True,
        seed: int | None = None,
    ) -> None:
        """The one loop of all mitigations: minibatches of shuffled images, a step each.

        Args:
            optimizer: of the tensors that the loss is differentiated by.
            images: with labels.
            loss: of a minibatch.
            steps: default as many as ``epochs`` have whole minibatches.
            after_step: called after every step.
            longest: norm to which longer gradients are clipped.
            falling: let the rate fall to 0 along a cosine.
            seed: of the order of the images; default the mitigation's.
        """
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        size = min(self.batch_size, len(images.image))
        steps = self.epochs * (len(images.image) // size) if steps is None else steps
        numbers = torch.arange(len(images.image), device=images.image.device)
        batches = shuffled_minibatches(numbers, size, self.seed if seed is None else seed)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps)) if falling else None
        for _ in range(steps):
            chosen = next(batches)
            value = loss(images.image[chosen], images.label[chosen])
            for weight, grad in zip(weights, torch.autograd.grad(value, weights, allow_unused=True), strict=True):
                weight.grad = grad
            if longest < math.inf:
                nn.utils.clip_grad_norm_(weights, longest)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            after_step()

    def prune(
        self,
        model: nn.Module,
        held_out: CleanImages,
        candidates: Iterable[tuple[float, tuple[Pruning, ...]]],
        accuracy_drop: float,
    ) -> Repair:
        """Prune as far as held-out clean accuracy allows: nothing else decides, least of all the success of an attack.

        Args:
            model: pruned in place.
            held_out: clean images.
            candidates: thresholds from the mildest on, and what each would prune.
            accuracy_drop: clean accuracy that may be lost, a share of the held-out images.
        """
        weights = list(model.parameters())
        start = [weight.detach().clone() for weight in weights]
        unpruned, tried, kept = correct(model, held_out), [], 0
        for threshold, prunings in candidates:
            prune(model, prunings)
            tried.append(Tried(threshold, correct(model, held_out), prunings))
            _put_back(weights, start)
            lost = (unpruned - tried[-1].correct) / len(held_out.image)
            if lost <= accuracy_drop and kept == len(tried) - 1:
                kept = len(tried)
            if lost > max(accuracy_drop, FAR):
                break
        if not kept:
            none = tuple(replace(each, pruned=()) for each in tried[0].prunings) if tried else ()
            return Repair(none, tried=tuple(tried))
        prune(model, tried[kept - 1].prunings)
        return Repair(tried[kept - 1].prunings, tried[kept - 1].threshold, tuple(tried))

    def _at_a_rate(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Repair at one rate after the other, the largest first, until held-out clean accuracy allows one."""
        weights, before, most = list(model.parameters()), correct(model, held_out), -1
        start = [weight.detach().clone() for weight in weights]
        tried: list[tuple[float, int]] = []
        prepared = self.prepared(model, images, held_out)
        for rate in self.rates:
            _put_back(weights, start)
            at_rate = copy.copy(prepared)
            at_rate.lr = rate
            repair = at_rate.repair(model, images, held_out)
            tried.append((rate, right := correct(model, held_out)))
            if right > most:
                most, chosen = right, replace(repair, lr=rate)
                best = [weight.detach().clone() for weight in weights]
            if before - right <= DROP * len(held_out.image):
                return replace(chosen, rates=tuple(tried))
        _put_back(weights, best)
        told = (
            f"no rate from {self.rates[0]:g} to {self.rates[-1]:g} keeps the clean accuracy: at {chosen.lr:g}, which "
            f"costs least, {most} of {len(held_out.image)} held-out images are right, {before} before"
        )
        return replace(chosen, rates=tuple(tried), warnings=(told, *chosen.warnings))

    def _split(self, clean: CleanImages) -> tuple[CleanImages, CleanImages]:
        """A seeded choice of the images, and the rest."""
        order = torch.randperm(len(clean.image), generator=torch.Generator().manual_seed(self.seed))
        order = order.to(clean.image.device)
        count = min(max(1, round(Fraction(self.held_out) * len(order))), len(order) - 1)
        parts = (order[count:], order[:count])
        return tuple(CleanImages(clean.image[part], clean.label[part]) for part in parts)

    def __repr__(self) -> str:
        """Class and hyperparameters in one line."""
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in settings_of(self).items())})"


@torch.no_grad()
def correct(model: nn.Module, images: CleanImages, batch_size: int = 512) -> int:
    """How many of the images the model classifies correctly."""
    parts = zip(images.image.split(batch_size), images.label.split(batch_size), strict=True)
    return int(sum(is_right(logits_of(model, x), y).sum() for x, y in parts))


@contextmanager
def changes_weights_only(model: nn.Module) -> Iterator[None]:
    """Eval mode and gradients inside; afterwards modes, ``.grad`` and the global RNG are as before."""
    modes = [(module, module.training) for module in model.modules()]
    grads = [(weight, weight.grad) for weight in model.parameters()]
    devices = {weight.device for weight in model.parameters() if weight.is_cuda}
    device = next(model.parameters()).device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        try:
            model.eval()
            with torch.random.fork_rng(devices=list(devices)):
                yield
        finally:
            for module, training in modes:
                module.training = training
            for weight, grad in grads:
                weight.grad = grad


@contextmanager
def answers_logits(model: nn.Module, image: Tensor) -> Iterator[None]:
    """Inside, a model that answers images [N, C, H, W] with probabilities answers with their logarithm.

    The cross-entropy of probabilities taken for logits hardly tells a sure answer from a doubtful one, and fine-tuning
    by it costs clean accuracy.
    """
    with torch.no_grad():
        sums_to_one = looks_like_probabilities(logits_of(model, image))
    hook = model.register_forward_hook(_logarithm) if sums_to_one else None
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def _logarithm(_: nn.Module, __: tuple[Tensor, ...], answer: Tensor) -> Tensor:
    return answer.clamp_min(torch.finfo(answer.dtype).tiny).log()


@torch.no_grad()
def _put_back(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
