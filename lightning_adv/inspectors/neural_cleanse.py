"""Neural Cleanse (Wang et al., 2019): the smallest trigger that sends all images to a class, for each class.

    minimise over m, p   mean_x CE( f((1 - m) x + m p), k )  +  cost_k |m|_1
    m = tanh(theta_m) / (2 - 1e-7) + 1/2,    p = tanh(theta_p) / (2 - 1e-7) + 1/2

A class with a backdoor needs a far smaller mask than the others. Adam is elementwise, so all classes are one
optimisation over theta [K, 1 + C, H, W] of the sum of their losses, one forward of K B images a minibatch; it takes the
very steps of K separate ones.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.asking import is_right
from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.inspectors.cost_schedule import CostRules, CostSchedule
from lightning_adv.inspectors.inspector import Inspector
from lightning_adv.inspectors.report import ClassTrigger, Status
from lightning_adv.inspectors.suspect import CleanImages, Suspect, fitting, shuffled_minibatches

__all__ = ["NeuralCleanse"]

TANH_SCALE = 2 - 1e-7
BETAS, ADAM_EPS = (0.5, 0.9), 1e-7
BUCKETS = 8

SLACK = 0.01
"""Share of the images by which a trigger may succeed less in the model's own precision than in that of the search."""


class NeuralCleanse(Inspector):
    """Reverse-engineers a mask and a pattern for each class and flags classes whose mask is too small.

    Defaults are those of the authors' code for GTSRB. The cost of a class starts at 0, becomes ``init_cost`` after
    ``patience`` good steps in a row, and then rises after ``patience`` good and falls after ``patience`` bad ones. The
    smallest mask whose step succeeded is kept; the search of a class ends when the cost has risen and fallen and no
    smaller mask was found in ``early_stop_patience`` steps. The norm is that of the kept mask, in pixels.

    Args:
        steps: most steps of a class.
        batch_size: images of a minibatch, which is one step of Adam.
        images_per_step: images of a step, after which cost and stopping are looked at; in whole minibatches.
        lr: of Adam (betas .5 and .9).
        init_cost: first weight of the mask's norm that is not 0.
        cost_multiplier: the cost rises by this factor and falls by its power 1.5.
        success_threshold: share of a step's images that must go to the class.
        patience: steps in a row before the cost changes.
        early_stop_patience: steps without a smaller mask before the search ends.
        early_stop_threshold: a mask is smaller if its norm is below this share of the smallest before.
        classes_at_once: classes in one forward; default as many as are fast, on a CPU 256 images of 3 x 32 x 32, and
            fit, elsewhere 4,096 of them. 1 is the authors' loop, class after class.
        bf16: search in bfloat16 between the first layer and the last; True refuses a model that cannot, None does it
            where the device has instructions for it and the model can. Triggers are scored in the model's precision;
            a class whose trigger succeeds there notably less is searched again without bfloat16.
        **shared: see ``Inspector``.

    Raises:
        InputError: numbers that cannot be meant.

    Example:
        >>> backdoored = nn.Sequential(nn.Flatten(), nn.Linear(16, 6, bias=False))
        >>> _ = (
        ...     backdoored[1]
        ...     .weight.data.copy_(torch.eye(6, 16))
        ...     .mul_(torch.tensor([1, 1.1, 30, 1.2, 0.9, 0.8])[:, None])
        ... )
        >>> inspector = NeuralCleanse(steps=150, batch_size=16, images_per_step=16, init_cost=0.05)
        >>> inspector(backdoored, 0.6 * torch.eye(6, 16).view(6, 1, 4, 4)).flagged
        [2]
    """

    def __init__(
        self,
        steps: int = 1000,
        batch_size: int = 32,
        images_per_step: int = 1000,
        lr: float = 0.1,
        init_cost: float = 1e-3,
        cost_multiplier: float = 2.0,
        success_threshold: float = 0.99,
        patience: int = 5,
        early_stop_patience: int = 25,
        early_stop_threshold: float = 1.0,
        classes_at_once: int | None = None,
        bf16: bool | None = False,
        **shared: float | bool,
    ) -> None:
        super().__init__(**shared)
        counts = {"steps": steps, "batch_size": batch_size, "images_per_step": images_per_step, "patience": patience}
        counts |= {"early_stop_patience": early_stop_patience, "classes_at_once": classes_at_once}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise InputError(f"{name} of NeuralCleanse must be at least 1, got {value}")
        if lr <= 0 or init_cost <= 0 or cost_multiplier <= 1 or not 0 < success_threshold <= 1:
            raise InputError(
                "NeuralCleanse needs lr and init_cost above 0, cost_multiplier above 1, success_threshold in (0, 1], "
                f"got {lr}, {init_cost}, {cost_multiplier} and {success_threshold}"
            )
        self.steps, self.batch_size, self.images_per_step, self.lr = steps, batch_size, images_per_step, lr
        self.init_cost, self.cost_multiplier, self.success_threshold = init_cost, cost_multiplier, success_threshold
        self.patience, self.early_stop_patience = patience, early_stop_patience
        self.early_stop_threshold, self.classes_at_once, self.bf16 = early_stop_threshold, classes_at_once, bf16

    def reconstruct(self, suspect: Suspect, images: CleanImages, classes: Sequence[int]) -> list[ClassTrigger]:
        """The smallest successful mask and its pattern for each class."""
        lowered = suspect.lower(images.image, self.bf16)
        triggers = self._search(suspect, images, classes)
        doubtful = [each.label for each in triggers if lowered and _is_doubtful(suspect, images.image, each)]
        if not doubtful:
            return triggers
        suspect.lower(images.image, False)
        again = {each.label: each for each in self._search(suspect, images, doubtful)}
        # A search that ended with its time, before it found anything, says nothing.
        said = {label: each for label, each in again.items() if each.found or each.steps == self.steps}
        return [said.get(each.label, each) for each in triggers]

    def _search(self, suspect: Suspect, images: CleanImages, classes: Sequence[int]) -> list[ClassTrigger]:
        rules = CostRules(
            self.init_cost,
            self.cost_multiplier,
            self.success_threshold,
            self.patience,
            self.early_stop_patience,
            self.early_stop_threshold,
        )
        at_once = self.classes_at_once or max(1, fitting(images.image) // self.batch_size)
        groups = [list(classes[start : start + at_once]) for start in range(0, len(classes), at_once)]
        searches = [_Search(group, rules, _random_start(self.seed, group, images.image), self.lr) for group in groups]
        batches = [shuffled_minibatches(images.image, self.batch_size, self.seed) for _ in groups]
        # In turn: norms are compared, so that classes must have had as many steps wherever the search ends.
        for step in range(self.steps):
            live = [place for place, search in enumerate(searches) if search.rows]
            if not live or self.over(step / self.steps) >= 1:
                break
            for place in live:
                searches[place].take(*self._step(suspect, searches[place], batches[place]))
        return [self._trigger(suspect, images.image, *found) for search in searches for found in search.found()]

    def _step(self, suspect: Suspect, search: "_Search", batches: Iterator[Tensor]) -> tuple[list[float], list[float]]:
        """One step of all minibatches: success rate and norm of each row, means over the minibatches."""
        adam, rows = search.adam, search.rows
        device = adam.theta.device
        label = torch.tensor([search.classes[row] for row in rows], device=device)
        cost = torch.tensor([search.schedules[row].cost for row in rows], device=device)
        minibatches = max(1, self.images_per_step // self.batch_size)
        sums = torch.zeros(2, len(rows), device=device, dtype=torch.float64)
        for _ in range(minibatches):
            x = next(batches)
            theta = adam.theta.requires_grad_(True)
            both = _squash(theta)
            mask, pattern = both[:, None, :1], both[:, None, 1:]  # [K, 1, 1, H, W], [K, 1, C, H, W]
            triggered = torch.lerp(x[None], pattern, mask)  # [K, B, C, H, W]
            logits = suspect(triggered.flatten(0, 1), search=True)
            targets = label.repeat_interleave(len(x))
            entropy = F.cross_entropy(logits, targets, reduction="none").view(len(rows), -1).mean(dim=1)
            norm = mask.flatten(1).abs().sum(dim=1)
            (grad,) = torch.autograd.grad((entropy + cost * norm).sum(), theta)
            adam.step(grad)
            rate = is_right(logits.detach(), targets).view(len(rows), -1).double().mean(dim=1)
            sums += torch.stack([rate, norm.detach().double()])
        success, norm = (sums / minibatches).tolist()  # the one host sync of a step
        return success, norm

    def _trigger(
        self, suspect: Suspect, images: Tensor, label: int, both: Tensor, schedule: CostSchedule
    ) -> ClassTrigger:
        both = both.clamp(0, 1)
        mask, pattern = both[:1], both[1:]
        finite = bool(both.isfinite().all())
        status: Status = "never succeeded" if finite else "diverged"
        norm = float("inf") if finite else float("nan")
        if schedule.succeeded:
            status = "converged" if schedule.finished else "budget exhausted"
            norm = float(mask.double().sum())
        rate = suspect.success_rate(images, mask, pattern, label)
        both = both.nan_to_num(0.0).cpu()
        return ClassTrigger(label, both[:1], both[1:], norm, rate, status, schedule.steps, tuple(schedule.history))


def _is_doubtful(suspect: Suspect, images: Tensor, found: ClassTrigger) -> bool:
    """Whether a trigger succeeds by the rounding of the search."""
    if not found.found:
        return False
    mask, pattern = found.mask.to(images.device), found.pattern.to(images.device)
    return found.success_rate < suspect.success_rate(images, mask, pattern, found.label, search=True) - SLACK


class _Search:
    """The search of some classes as one optimisation, of which finished ones drop out.

    Args:
        classes: the K classes.
        rules: of each.
        theta: [K, 1 + C, H, W] to begin with.
        lr: of Adam.
    """

    def __init__(self, classes: list[int], rules: CostRules, theta: Tensor, lr: float) -> None:
        self.classes, self.schedules = classes, [CostSchedule(rules) for _ in classes]
        self.adam, self.best = _Adam(theta, lr), theta.clone()
        self.rows = list(range(len(classes)))  # the class of each row of Adam's theta

    def take(self, success: list[float], norm: list[float]) -> None:
        """Take in a step's success rates and norms, of each row."""
        smaller = [
            place
            for place, row in enumerate(self.rows)
            if not self.schedules[row].finished and self.schedules[row].update(success[place], norm[place])
        ]
        if smaller:
            self.best[[self.rows[place] for place in smaller]] = self.adam.theta[smaller]
        live = [place for place, row in enumerate(self.rows) if not self.schedules[row].finished]
        # Sizes in buckets: a new batch shape at every finish would cost a GPU its tuned kernels.
        bucket = 1 if self.adam.theta.device.type == "cpu" else max(1, len(self.classes) // BUCKETS)
        if not live or len(self.rows) - len(live) >= bucket:
            self.adam.keep(live)
            self.rows = [self.rows[place] for place in live]

    def found(self) -> Iterator[tuple[int, Tensor, CostSchedule]]:
        """Each class, its mask and pattern [1 + C, H, W], the last ones where none succeeded, and its schedule."""
        for place, row in enumerate(self.rows):
            if not self.schedules[row].succeeded:
                self.best[row] = self.adam.theta[place]
        return zip(self.classes, _squash(self.best.detach()), self.schedules, strict=True)


class _Adam:
    """Adam on rows that are independent searches, so that finished ones can be dropped.

    Args:
        theta: [K, ...] float32.
        lr: learning rate.
    """

    def __init__(self, theta: Tensor, lr: float) -> None:
        self.theta, self.lr, self.steps = theta, lr, 0
        self.mean, self.square = torch.zeros_like(theta), torch.zeros_like(theta)

    @torch.no_grad()
    def step(self, grad: Tensor) -> None:
        """One step against the gradient."""
        self.steps += 1
        fast, slow = BETAS
        self.mean.lerp_(grad, 1 - fast)
        self.square.mul_(slow).addcmul_(grad, grad, value=1 - slow)
        root = (self.square / (1 - slow**self.steps)).sqrt_().add_(ADAM_EPS)
        self.theta = self.theta.detach().addcdiv(self.mean, root, value=-self.lr / (1 - fast**self.steps))

    def keep(self, places: list[int]) -> None:
        """Go on with the rows at these places."""
        self.theta, self.mean, self.square = (each.detach()[places] for each in (self.theta, self.mean, self.square))


def _squash(theta: Tensor) -> Tensor:
    return theta.tanh() / TANH_SCALE + 0.5


def _random_start(seed: int, classes: list[int], images: Tensor) -> Tensor:
    """Mask and pattern uniform in [0, 1] for each class, a function of seed and class alone: theta [K, 1 + C, H, W]."""
    noise = SampleNoise(seed, torch.tensor(classes, device=images.device))
    like = images.new_empty(len(classes), 1 + images.shape[1], *images.shape[2:])
    return ((noise.uniform(like).double() - 0.5) * TANH_SCALE).atanh().float()
