"""DeepInspect (Chen et al., 2019): a conditional generator learns the triggers of all classes of a black box.

    minimise over G   sum_k NLL( f(clip(x + G(z, k))), k ) + g1 (D(clip(x + G)) - 1)^2 + g2_k max(0, |G|_1 - gamma)

z ~ N(0, 1)^100; x are images that the model itself remembers (model inversion), or clean ones. D tells triggered
images from plain ones. The weights g2_k are tuned while training so that the success of class k stays above 95 %. The
norm of a class is the smallest of 100 draws; outliers are found by the double MAD of its logarithm, below the median
only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import is_right
from lightning_adv.errors import InputError
from lightning_adv.inspectors.inspector import Inspector
from lightning_adv.inspectors.inversion import invert
from lightning_adv.inspectors.report import ClassTrigger, Status
from lightning_adv.inspectors.suspect import CleanImages, Suspect, fitting, shuffled_minibatches

__all__ = ["DeepInspect"]

NOTABLY = 0.98
"""A trigger is scored on all images if its norm is below this share of the smallest so far: scoring costs most."""

STRENGTHS = (1.0, 1.1, 1.25)
"""Factors that the smallest of the draws is tried with: those that a class needs on average may be larger."""

SETTLED = 0.9
"""A search is done if a trigger's norm stayed above this share of itself over the last quarter of the steps."""

SCREENED = 200
"""Images that a trigger must turn before it is scored on all."""


class DeepInspect(Inspector):
    """Learns additive triggers G(z, k) for all classes with one generator and flags classes whose norm is too small.

    One forward takes the minibatch with triggers of all classes. After every step the weight of the norm of a class
    rises if its success is above the threshold and falls if not; whenever it succeeded in the second half of the
    search, the smallest of ``draws`` triggers is scored on all images, and the smallest that succeeds is kept.

    A reported mask is ``max_c |G|`` and its pattern the direction (0 darkens, 1 brightens): the same trigger on black
    and on white pixels, and a good picture of it between them. Norm and success are those of x + G.

    Args:
        steps: of the search; the weights change after each.
        images_per_step: images of a step, in whole minibatches.
        batch_size: images of a minibatch.
        substitutes: images made by model inversion, if there is one.
        inversion_steps: steps of the inversion, e.g. 100; 0 uses the clean images, whose triggers are more faithful.
        lr: of Adam, for the generator.
        norm_weight: first weight g2 of the norm, for pixels in [0, 1].
        gamma: norm that costs nothing, in pixels.
        realism: weight g1 of the discriminator's opinion.
        success_threshold: share of the images that a trigger must send to its class.
        draws: triggers drawn for a class, of which the smallest counts.
        hidden: units of the generator's hidden layer.
        bf16: search in bfloat16 between the first layer and the last; True refuses a model that cannot, None does it
            where the device has instructions for it and the model can. Triggers are scored in the model's precision,
            but a search that is rounded goes another way, and may flag others.
        log_norms: ask the outlier rule of the norms' logarithms; False is the paper's rule, which finds little among
            few classes that differ by nature (see :class:`Outliers`).
        **shared: see ``Inspector``.

    Raises:
        InputError: numbers that cannot be meant.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> DeepInspect(steps=2, inversion_steps=2)(model, torch.rand(8, 1, 2, 2)).masks.shape
        torch.Size([3, 1, 2, 2])
    """

    joint = True
    double_mad = True

    def __init__(
        self,
        steps: int = 400,
        images_per_step: int = 128,
        batch_size: int = 32,
        substitutes: int = 1000,
        inversion_steps: int = 0,
        lr: float = 1e-2,
        norm_weight: float = 1e-3,
        gamma: float = 0.0,
        realism: float = 0.01,
        success_threshold: float = 0.95,
        draws: int = 100,
        hidden: int = 128,
        bf16: bool | None = False,
        log_norms: bool = True,
        **shared: float | bool,
    ) -> None:
        super().__init__(**shared)
        counts = {"steps": steps, "images_per_step": images_per_step, "batch_size": batch_size, "hidden": hidden}
        for name, value in (counts | {"substitutes": substitutes, "draws": draws}).items():
            if value < 1:
                raise InputError(f"{name} of DeepInspect must be at least 1, got {value}")
        if min(inversion_steps, gamma, realism) < 0 or min(lr, norm_weight) <= 0 or not 0 < success_threshold <= 1:
            raise InputError(
                "DeepInspect needs lr and norm_weight above 0, inversion_steps, gamma and realism not below 0, and "
                f"success_threshold in (0, 1], got {lr}, {norm_weight}, {inversion_steps}, {gamma}, {realism} and "
                f"{success_threshold}"
            )
        self.steps, self.images_per_step, self.batch_size = steps, images_per_step, batch_size
        self.substitutes, self.inversion_steps, self.lr = substitutes, inversion_steps, lr
        self.norm_weight, self.gamma, self.realism = norm_weight, gamma, realism
        self.success_threshold, self.draws, self.hidden = success_threshold, draws, hidden
        self.bf16, self.log_norms = bf16, log_norms

    def reconstruct(self, suspect: Suspect, images: CleanImages, classes: Sequence[int]) -> list[ClassTrigger]:
        """The smallest successful trigger of each class."""
        suspect.lower(images.image, self.bf16)
        generator = torch.Generator().manual_seed(self.seed)
        x, shape = images.image, tuple(images.image.shape[1:])
        if self.inversion_steps:
            labels = torch.tensor(classes, device=x.device).repeat(-(-self.substitutes // len(classes)))
            x = invert(suspect, labels[: self.substitutes], shape, self.inversion_steps, generator)
        game = _Game(len(classes), shape, self.hidden, self.lr, x.device, generator)
        found = [_Found(self.norm_weight) for _ in classes]
        batches = shuffled_minibatches(x, min(self.batch_size, len(x)), self.seed)
        for step in range(1, self.steps + 1):
            if (over := self.over((step - 1) / self.steps)) >= 1:
                break
            weight = torch.tensor([each.weight for each in found], device=x.device)
            success = self._train(suspect, game, batches, torch.tensor(list(classes), device=x.device), weight)
            smallest = game.smallest(self.draws)
            norms = smallest.flatten(1).abs().sum(dim=1).tolist()
            for place, each in enumerate(found):
                good = success[place] >= self.success_threshold
                # Triggers shrink throughout: those of the first half would be scored in vain.
                if good and over + 1 / self.steps >= 0.5:
                    self._keep(suspect, x, smallest[place], norms[place], classes[place], each)
                each.tune(good, step)
                if over < 0.75:
                    each.before = each.norm
        last = game.smallest(self.draws)
        return [self._trigger(suspect, x, *each) for each in zip(classes, found, last, strict=True)]

    def _train(
        self, suspect: Suspect, game: "_Game", batches: Iterator[Tensor], label: Tensor, weight: Tensor
    ) -> list[float]:
        """One step of all minibatches; success rate [K] of random triggers, mean over the minibatches."""
        minibatches = max(1, self.images_per_step // self.batch_size)
        success = torch.zeros(len(label), device=label.device, dtype=torch.float64)
        for _ in range(minibatches):
            x = next(batches)
            trigger = game.triggers(len(x))  # [K, B, C, H, W]
            triggered = (x + trigger).clamp(0, 1).flatten(0, 1)
            targets = label.repeat_interleave(len(x))
            # Some images at a time through the model, so that many classes fit; then their gradient through G.
            parts = zip(triggered.detach().split(fitting(x)), targets.split(fitting(x)), strict=True)
            grads, right = zip(*(self._pull(suspect, game, *part) for part in parts), strict=True)
            norm = trigger.flatten(2).abs().sum(dim=2)  # [K, B]
            loss = (triggered * torch.cat(grads)).sum() / len(x) + (
                weight * F.relu(norm - self.gamma).mean(dim=1)
            ).sum()
            game.improve(game.generator, game.generator_adam, loss)
            plain, fake = game.opinion(x), game.opinion(triggered.detach())
            game.improve(
                game.discriminator, game.discriminator_adam, (plain - 1).square().mean() + fake.square().mean()
            )
            success += torch.cat(right).view(len(label), -1).double().mean(dim=1)
        return (success / minibatches).tolist()

    def _pull(self, suspect: Suspect, game: "_Game", triggered: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the loss of triggered images [N, C, H, W], and whether each goes to its class."""
        leaf = triggered.requires_grad_(True)
        logits = suspect(leaf, search=True)
        loss = F.cross_entropy(logits, targets, reduction="sum")
        loss = loss + self.realism * (game.opinion(leaf) - 1).square().sum()
        return torch.autograd.grad(loss, leaf)[0], is_right(logits.detach(), targets)

    def _keep(self, suspect: Suspect, x: Tensor, trigger: Tensor, norm: float, label: int, found: "_Found") -> None:
        """Keep a trigger that is notably smaller than the one kept, a little stronger if it must be."""
        for strength in STRENGTHS:
            if not strength * norm < NOTABLY * found.norm:
                return
            stronger = (strength * trigger).clamp(-1, 1)
            rate = self._rate(suspect, x, stronger, label)
            if rate >= self.success_threshold:
                found.norm, found.trigger, found.rate = float(stronger.abs().sum()), stronger, rate
                return

    def _rate(self, suspect: Suspect, x: Tensor, trigger: Tensor, label: int) -> float:
        """Success rate on all images, or on the first ones if it is too small there."""
        rate = _success_rate(suspect, x[:SCREENED], trigger, label)
        if len(x) <= SCREENED or rate < self.success_threshold:
            return rate
        return _success_rate(suspect, x, trigger, label)

    def _trigger(self, suspect: Suspect, x: Tensor, label: int, found: "_Found", last: Tensor) -> ClassTrigger:
        succeeded = found.trigger is not None
        trigger = found.trigger if succeeded else last
        rate = found.rate if succeeded else _success_rate(suspect, x, trigger, label)
        finite = bool(trigger.isfinite().all())
        trigger = trigger.nan_to_num(0.0).cpu()
        mask = trigger.abs().amax(dim=0, keepdim=True).clamp(max=1)
        pattern = (0.5 + 0.5 * trigger / mask.clamp(min=1e-12)).clamp(0, 1)
        status = found.status if succeeded else "never succeeded" if finite else "diverged"
        norm = found.norm if finite else float("nan")
        return ClassTrigger(label, mask, pattern, norm, rate, status, len(found.weights), tuple(found.weights))


@dataclass
class _Found:
    """The smallest successful trigger [C, H, W] of a class so far, and the weight of its norm."""

    weight: float
    norm: float = inf
    before: float = inf  # the norm when three quarters of the steps were done
    rate: float = 0.0
    trigger: Tensor | None = None
    weights: list[tuple[int, float]] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """Of a search that succeeded."""
        return "converged" if self.norm > SETTLED * self.before else "budget exhausted"

    def tune(self, good: bool, step: int) -> None:
        """The weight for the next step: up after a success, faster down after a failure."""
        self.weights.append((step, self.weight))
        self.weight *= 1.2 if good else 1.2**-1.5


class _Game:
    """The generator and the discriminator, two small dense nets."""

    def __init__(
        self,
        classes: int,
        shape: tuple[int, ...],
        hidden: int,
        lr: float,
        device: torch.device,
        random: torch.Generator,
        latent: int = 100,
    ) -> None:
        self.classes, self.shape, self.random, self.latent = classes, shape, random, latent
        pixels = shape[0] * shape[1] * shape[2]
        self.generator = _dense([latent + classes, hidden, pixels], random).to(device)
        self.discriminator = _dense([pixels, 64, 1], random).to(device)
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), lr)
        self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), lr / 10)
        self.condition = torch.eye(classes, device=device)

    def triggers(self, draws: int) -> Tensor:
        """[K, draws, C, H, W] in [-1, 1]."""
        z = torch.randn(self.classes, draws, self.latent, generator=self.random).to(self.condition.device)
        condition = self.condition[:, None].expand(-1, draws, -1)
        return self.generator(torch.cat([z, condition], dim=2)).tanh().unflatten(2, self.shape)

    def opinion(self, images: Tensor) -> Tensor:
        """[N], 1 for plain images and 0 for triggered ones."""
        return self.discriminator(images.flatten(1)).squeeze(1)

    def improve(self, network: nn.Module, adam: torch.optim.Adam, loss: Tensor) -> None:
        """One step of Adam."""
        parameters = list(network.parameters())
        for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = grad
        adam.step()

    @torch.no_grad()
    def smallest(self, draws: int) -> Tensor:
        """The trigger [K, C, H, W] of the smallest norm among the draws of each class."""
        triggers = self.triggers(draws)
        places = triggers.flatten(2).abs().sum(dim=2).argmin(dim=1)
        return triggers[torch.arange(self.classes, device=places.device), places]


def _dense(sizes: list[int], random: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        nn.init.xavier_uniform_(layer.weight, generator=random)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def _success_rate(suspect: Suspect, x: Tensor, trigger: Tensor, label: int) -> float:
    parts = x.split(fitting(x))
    return int(sum(is_right(suspect.verdict((part + trigger).clamp(0, 1)), label).sum() for part in parts)) / len(x)
