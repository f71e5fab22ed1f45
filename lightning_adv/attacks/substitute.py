"""Black-box attack by a substitute (Papernot et al., Practical Black-Box Attacks, 2017).

S_{r+1} = S_r  u  { x + lambda_r sign(dF_{O(x)}(x) / dx) : x in S_r },   F trained on the oracle's labels O(S_r)
"""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import NO_CLASS, logits_of, predicted
from lightning_adv.attacks.attack import Attack
from lightning_adv.attacks.budget import Budget, as_float
from lightning_adv.attacks.goal import Goal
from lightning_adv.attacks.losses import cross_entropy
from lightning_adv.attacks.noise import Noise, SampleNoise
from lightning_adv.attacks.oracle import LabelOracle, predicted_labels
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.attacks.wrapper import Wrapper
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images, check_pixels

__all__ = ["SubstituteAttack", "SubstituteRound"]


@dataclass(frozen=True)
class SubstituteRound:
    """One round of augmentation.

    Args:
        images: in the set that the substitute was trained on.
        queries: asked of the oracle so far.
        agreement: share of the set on which the substitute, after training, says what the oracle said.

    Example:
        >>> SubstituteRound(images=100, queries=100, agreement=0.97).queries
        100
    """

    images: int
    queries: int
    agreement: float


class SubstituteAttack(Wrapper):
    """Learns a substitute from an oracle's labels, then attacks the substitute: the images transfer.

    :meth:`fit` asks the oracle, once, for at most ``queries`` labels; afterwards the attack crafts on the substitute
    alone, and ``run`` asks the model it is given only to judge what was crafted. The oracle may be any function; in a
    ``CountedOracle`` its answers are kept on disk, and an interrupted fit, which repeats the same images, goes on.

    Args:
        attack: crafts on the substitute; any that needs no knowledge of the oracle.
        substitute: name of a backbone, or a module with the oracle's number of logits, which is copied.
        rounds: of augmentation; each doubles the set until ``reservoir_after``.
        epochs: of training on the set in each round.
        augmentation_step: lambda, in pixel units of [0, 1].
        period: rounds after which the sign of lambda turns (tau of the paper); None never turns it.
        reservoir: images that a round adds once ``reservoir_after`` rounds are over (kappa), a random choice of the
            set; None goes on doubling.
        reservoir_after: sigma of the paper.
        queries: the oracle is never asked for more labels; the set stops growing there.
        lr: of Adam.
        batch_size: of training.
        seed: of weights, order and reservoir.

    Raises:
        InputError: a number out of range, an unknown backbone; when called, no fit before.

    Example:
        >>> from lightning_adv.attacks import FGSM
        >>> oracle = lambda x: (x.mean(dim=(1, 2, 3)) > 0.5).long()
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> attack = SubstituteAttack(FGSM(eps=0.2), net, rounds=2, epochs=2, queries=20)
        >>> attack.fit(oracle, torch.rand(8, 1, 2, 2), num_classes=2).history[-1].queries <= 20
        True
    """

    # The attack works on the substitute: to the model under attack its images come from a black box, once.
    loss, shortest, judges_itself, aim, draws = staticmethod(cross_entropy), None, False, None, 1
    covers_ball, black_box, takes_probabilities = False, True, False

    def __init__(
        self,
        attack: Attack,
        substitute: str | nn.Module = "mnist_cnn",
        rounds: int = 6,
        epochs: int = 10,
        augmentation_step: Budget = 0.1,
        period: int | None = None,
        reservoir: int | None = None,
        reservoir_after: int = 3,
        queries: int = 6400,
        lr: float = 1e-3,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(attack)
        self.seed = seed
        numbers = {"epochs": epochs, "period": period, "reservoir": reservoir, "queries": queries}
        for name, value in (numbers | {"batch_size": batch_size}).items():
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if rounds < 0 or reservoir_after < 0 or lr <= 0:
            raise InputError(f"rounds, reservoir_after and lr must not be negative: {rounds}, {reservoir_after}, {lr}")
        self.substitute, self.rounds, self.epochs = substitute, rounds, epochs
        self.augmentation_step = as_float("augmentation_step", augmentation_step)
        self.period, self.reservoir, self.reservoir_after = period, reservoir, reservoir_after
        self.queries, self.lr, self.batch_size = queries, lr, batch_size
        self.model: nn.Module | None = None
        self.history: list[SubstituteRound] = []

    @property
    def members(self) -> dict[str, Attack]:
        """None: whatever crafts on the substitute, one image comes of it."""
        return {}

    def fit(self, oracle: LabelOracle, images: Tensor, num_classes: int) -> "SubstituteAttack":
        """Learn the substitute from the oracle's labels of ``images`` and of those grown from them; returns itself.

        Args:
            oracle: images to labels [N] or logits [N, K]; only labels are used.
            images: [N, C, H, W] seed set in [0, 1], a few of each class.
            num_classes: K.

        Raises:
            InputError: images outside [0, 1], more of them than queries, a label from K on, an oracle that fails.
        """
        check_images(images, "the seed set")
        if not len(images):
            raise InputError("the seed set must hold at least one image")
        check_pixels(images, "divide uint8 images by 255", "the seed set must be images, which")
        if len(images) > self.queries:
            raise InputError(f"the seed set has {len(images)} images, and only {self.queries} queries are allowed")
        generator = torch.Generator().manual_seed(self.seed)
        x, history = images.detach().float().clamp(0, 1), []
        asked = len(x)
        x, y = self._labelled(oracle, x, num_classes)
        if not len(x):
            raise InputError(f"the oracle names no class for any of {asked} images: its logits are NaN")
        devices = range(torch.cuda.device_count())  # the seed below goes to all of them
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)  # the first weights, and dropout
            model = self._new_model(x, num_classes)
            optimizer = torch.optim.Adam(model.parameters(), self.lr)
            for number in itertools.count():
                self._train(model, optimizer, x, y, generator)
                history.append(SubstituteRound(len(x), asked, self._agreement(model, x, y)))
                left = self.queries - asked
                grown = self._grown(model, x, y, number, left, generator) if number < self.rounds else x[:0]
                if not len(grown):
                    break
                asked += len(grown)
                more, labels = self._labelled(oracle, grown, num_classes)
                x, y = torch.cat([x, more]), torch.cat([y, labels])
        self.model, self.history = model.eval(), history
        return self

    def perturb(self, goal: Goal, noise: Noise) -> Tensor:
        """Craft on the substitute; the model under attack is not asked."""
        if self.model is None:
            raise InputError("SubstituteAttack has no substitute yet: call fit(oracle, seed_images, num_classes) first")
        index = noise.index if isinstance(noise, SampleNoise) else None
        return self.attack(self.model, goal.x, goal.y, target=goal.target, index=index)

    def _hold(self, attack: Attack) -> None:
        self.attack = attack

    def _labelled(self, oracle: LabelOracle, x: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """The images to which the oracle gives a class, not a NaN, and these classes."""
        with torch.no_grad():
            y = torch.cat([predicted_labels(oracle, part) for part in x.split(500)])
        if y.min() < NO_CLASS or y.max() >= num_classes:
            raise InputError(
                f"the oracle names classes {int(y.min())} to {int(y.max())}, and num_classes is {num_classes}"
            )
        return x[y != NO_CLASS], y[y != NO_CLASS]

    def _new_model(self, x: Tensor, num_classes: int) -> nn.Module:
        if isinstance(self.substitute, nn.Module):
            return copy.deepcopy(self.substitute).to(x.device)
        from lightning_adv.models import create_model

        size = tuple(x.shape[2:])
        return create_model(self.substitute, num_classes=num_classes, in_channels=x.shape[1], image_size=size).to(
            x.device
        )

    def _train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> None:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        model.train()
        for chosen in self._minibatches(len(x), generator):
            loss = F.cross_entropy(logits_of(model, x[chosen]), y[chosen])
            for weight, grad in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                weight.grad = grad
            optimizer.step()
        optimizer.zero_grad()

    def _minibatches(self, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(self.epochs):
            yield from torch.randperm(count, generator=generator).split(self.batch_size)

    def _grown(
        self, model: nn.Module, x: Tensor, y: Tensor, number: int, left: int, generator: torch.Generator
    ) -> Tensor:
        """The images that round ``number`` adds, no more than the queries that are ``left``."""
        count = len(x)
        if self.reservoir is not None and number >= self.reservoir_after:
            count = min(self.reservoir, count)
        count = min(count, left)
        if count < 1:
            return x[:0]
        # Without a reservoir all are taken, in order; a last, incomplete round takes a random choice as well.
        chosen = torch.arange(count) if count == len(x) else torch.randperm(len(x), generator=generator)[:count]
        step = self.augmentation_step * (1 if self.period is None else (-1) ** (number // self.period))
        parts = []
        with leaves_no_trace(model):
            for rows in chosen.split(500):
                leaf = x[rows].clone().requires_grad_(True)
                own = logits_of(model, leaf).gather(1, y[rows, None]).sum()
                parts.append((leaf.detach() + step * torch.autograd.grad(own, leaf)[0].sign()).clamp(0, 1))
        return torch.cat(parts)

    def _agreement(self, model: nn.Module, x: Tensor, y: Tensor) -> float:
        with leaves_no_trace(model), torch.no_grad():
            said = torch.cat([predicted(logits_of(model, part)) for part in x.split(500)])
        return float((said == y).double().mean())
