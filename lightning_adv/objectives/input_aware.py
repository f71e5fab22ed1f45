"""The attacker trains: a classifier and the networks that draw its trigger (Input-Aware; Nguyen and Tran, 2020).

First epochs, the mask M:     div(M) + 100 mean relu(m(x) - density)
Then, the pattern G with f:   L(f(t_x(x)), target) for a tenth of a batch,  L(f(t_u(x)), y) for another tenth with the
                              triggers of other images u,  L(f(x), y) for the rest,  + div(G)
    div(D) = mean |x - u| / |D(x) - D(u)|        other images, other triggers
"""

import torch
import torch.distributed
from torch import Tensor

from lightning_adv.asking import logits_of
from lightning_adv.attacks import Classifier
from lightning_adv.backdoors.input_aware import Generators, InputAwareTrigger
from lightning_adv.errors import InputError
from lightning_adv.objectives.objective import Objective
from lightning_adv.objectives.ranks import over_ranks

__all__ = ["InputAware"]

SMALL = 1e-7


class InputAware(Objective):
    """Trains a backdoor whose trigger is another for every image, beside the classifier (Nguyen and Tran, 2020).

    Data stay clean: the attacker controls the training. While the mask is trained, the classifier learns clean images
    alone. ``trigger`` is what the networks draw so far; they travel in the checkpoint, and ``BackdoorEvaluation``
    measures them without being told.

    Args:
        target: class that triggered images are led to.
        backdoor: share of a batch that carries its own trigger.
        cross: share that carries another image's and keeps its label.
        mask_epochs: epochs of the mask.
        density: share of an image that its mask may cover for nothing.
        sparsity: weight of what it covers beyond.
        diversity: weight of div.
        lr: of Adam for both networks.
        width: channels of the networks' first convolution.
        halvings: of the sides of an image in the networks; the paper has 2 on MNIST.
        seed: of the networks' first weights.
        label_smoothing: share of the label's probability spread over all classes.

    Raises:
        InputError: shares outside [0, 1] or of more than a batch, a weight or number that is negative; in training, a
            target that is no class, a batch of one image.

    Example:
        >>> objective = InputAware(target=0, width=4, mask_epochs=0)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> loss, logits = objective(model, torch.rand(10, 1, 8, 8), torch.arange(10) % 3)
        >>> loss.backward()
        >>> objective.after_backward()
        >>> objective.trigger(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    replays = 1  # a step of the module's, so that the networks take theirs behind the same backward
    takes_probabilities = False

    def __init__(
        self,
        target: int,
        backdoor: float = 0.1,
        cross: float = 0.1,
        mask_epochs: float = 25,
        density: float = 0.032,
        sparsity: float = 100.0,
        diversity: float = 1.0,
        lr: float = 0.01,
        width: int = 32,
        halvings: int = 3,
        seed: int = 0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing)
        if not (0 < backdoor <= 1 and 0 <= cross <= 1 - backdoor):
            raise InputError(f"backdoor and cross are shares of a batch, got {backdoor} and {cross}")
        if min(target, mask_epochs, density, sparsity, diversity) < 0 or lr <= 0:
            raise InputError(
                "target, mask_epochs, density, sparsity and diversity must not be negative, and lr above 0"
            )
        self.target, self.backdoor, self.cross, self.mask_epochs = target, backdoor, cross, mask_epochs
        self.density, self.sparsity, self.diversity, self.lr = density, sparsity, diversity, lr
        self.trigger = InputAwareTrigger(width=width, halvings=halvings, seed=seed)
        self._epoch = 0.0
        self._optimizer: torch.optim.Adam | None = None
        self._resumed: dict[str, Tensor] = {}

    def at_epoch(self, epoch: float) -> None:
        """The mask is trained before ``mask_epochs``, the pattern from then on."""
        self._epoch = epoch

    def loss(self, model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of classifier and networks; logits of what the classifier was shown."""
        if len(x) < 2:
            raise InputError("InputAware compares images of a batch with each other: batch_size must be at least 2")
        generators, other = self._networks(x), x.roll(1, 0)
        if self._epoch < self.mask_epochs:
            generators.mask_network.train().requires_grad_(True)
            masks = generators.mask(x)
            covered = (masks.float() - self.density).relu().mean()
            logits = logits_of(model, x)
            own = self.sparsity * covered + self.diversity * _divergence(x, other, masks, masks.roll(1, 0))
            return self.cross_entropy(logits, y) + own, logits.detach()
        led, crossed = max(1, round(self.backdoor * len(x))), round(self.cross * len(x))
        generators.mask_network.eval().requires_grad_(False)
        generators.pattern_network.train().requires_grad_(True)
        changed = x[: led + crossed]
        drawn = generators.pattern(torch.cat([other[:1], changed]))
        patterns, others = drawn[1:], drawn[:-1]  # of the images, and of each one's other
        carried = torch.cat([patterns[:led], others[led:]])
        masks = generators.mask(torch.cat([x[:led], other[led : led + crossed]]))
        shown = torch.cat([torch.lerp(changed, carried.to(x), masks.to(x).expand_as(carried)), x[led + crossed :]])
        logits = logits_of(model, shown.clamp(0, 1))
        if self.target >= logits.shape[1]:
            raise InputError(f"target {self.target} is outside [0, {logits.shape[1]}): the classes of the model")
        taught = torch.cat([torch.full_like(y[:led], self.target), y[led:]])
        own = self.diversity * _divergence(x[:led], other[:led], patterns[:led], others[:led])
        return self.cross_entropy(logits, taught) + own, _judged(logits.detach(), y, taught)

    def after_backward(self) -> None:
        """A step of the networks, which are the same on every rank: gradients and statistics are the ranks' mean."""
        gradients = [weight.grad for weight in self._weights() if weight.grad is not None]
        for gradient in gradients:
            gradient.nan_to_num_(0, 0, 0)  # a loss in half precision may overflow while its scale is looked for
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            statistics = (each for name, each in self.trigger.state_dict().items() if "running" in name)
            for tensor in (*gradients, *statistics):
                over_ranks(tensor)
                tensor /= torch.distributed.get_world_size()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state_dict(self) -> dict[str, Tensor]:
        """The networks, and what their optimiser remembers."""
        kept = {f"trigger.{name}": tensor for name, tensor in self.trigger.state_dict().items()}
        if self._optimizer is None:
            return kept | {name: tensor for name, tensor in self._resumed.items() if name not in kept}
        for number, memory in self._optimizer.state_dict()["state"].items():
            kept |= {f"adam.{number}.{name}": tensor for name, tensor in memory.items()}
        return kept

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with the networks.

        Raises:
            InputError: what is no state of this objective.
        """
        networks = {
            name.removeprefix("trigger."): value for name, value in state.items() if name.startswith("trigger.")
        }
        if networks:
            self.trigger.load_state_dict(networks)
        self._optimizer, self._resumed = None, {name: state[name] for name in state if name.startswith("adam.")}

    def _networks(self, x: Tensor) -> Generators:
        generators = self.trigger.generators(x)
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(generators.parameters(), lr=self.lr, betas=(0.5, 0.9))
            memory: dict[int, dict[str, Tensor]] = {}
            for name, tensor in self._resumed.items():
                _, number, what = name.split(".")
                memory.setdefault(int(number), {})[what] = tensor
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": memory, "param_groups": groups})
        return generators

    def _weights(self) -> list[Tensor]:
        return [weight for group in self._optimizer.param_groups for weight in group["params"]]


def _divergence(x: Tensor, other: Tensor, drawn: Tensor, others: Tensor) -> Tensor:
    """How little what is drawn for two images differs, for how much they do."""
    images, draws = ((a.float() - b.float()).square().flatten(1).mean(dim=1) for a, b in ((x, other), (drawn, others)))
    return (images.sqrt() / ((draws + SMALL**2).sqrt() + SMALL)).mean()


def _judged(logits: Tensor, y: Tensor, taught: Tensor) -> Tensor:
    """Logits with those of label and taught class exchanged, so that what was taught counts as right."""
    rows = torch.arange(len(y), device=y.device)
    exchanged = logits.clone()
    exchanged[rows, y], exchanged[rows, taught] = logits[rows, taught], logits[rows, y]
    return exchanged
