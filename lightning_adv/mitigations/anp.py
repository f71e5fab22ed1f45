"""Adversarial neuron pruning (Wu, Wang, 2021): a backdoor's channels are those that misbehave when they are shaken.

    min_{m in [0,1]}  alpha L(m w, b) + (1 - alpha)  max_{|d|, |x| <= eps}  L( (m + d) w, (1 + x) b )

with a mask m, a noise d of the scale w and a noise x of the shift b for each channel of each BatchNorm. Channels whose
mask has fallen below a threshold are pruned.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import at_weights, logits_of
from lightning_adv.errors import InputError
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations.channels import Norm, Pruning, convolutions, ran
from lightning_adv.mitigations.mitigation import MOMENTUM, Mitigation, Repair

__all__ = ["ANP"]

THRESHOLDS = tuple(each / 20 for each in range(1, 20))


class ANP(Mitigation):
    """Learns which channels the clean images need against noise on all of them, and zeroes the scale of the others.

    The model is never written while masks are learnt: scales and shifts are put in place of its own, and BatchNorm
    keeps its statistics. In a network without BatchNorm, kernels and biases of the convolutions take their place.

    Args:
        eps: bound of the noise, relative to scales and shifts.
        alpha: weight of the loss without noise.
        accuracy_drop: clean accuracy that pruning may cost, a share of the held-out images: it chooses the threshold.
        steps: of learning the masks, a minibatch each.
        lr: of the masks.
        batch_size, held_out, seed: see :class:`Mitigation`.

    Raises:
        InputError: numbers that cannot be meant; in a call, a model without BatchNorm or convolution.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        >>> images = [(torch.rand(20, 1, 4, 4), torch.arange(20) % 3)]
        >>> ANP(steps=5)(model.eval(), images).repair.prunings[0].rows
        ('1.weight',)
    """

    def __init__(
        self,
        eps: float = 0.4,
        alpha: float = 0.2,
        accuracy_drop: float = 0.02,
        steps: int = 2000,
        lr: float = 0.2,
        batch_size: int = 128,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(0, lr, batch_size, held_out, seed)
        if eps < 0 or steps < 1 or not 0 <= alpha <= 1 or not 0 <= accuracy_drop <= 1:
            raise InputError(
                "ANP needs eps >= 0, steps >= 1, alpha and accuracy_drop in [0, 1], "
                f"got {eps}, {steps}, {alpha} and {accuracy_drop}"
            )
        self.eps, self.alpha, self.accuracy_drop, self.steps = eps, alpha, accuracy_drop, steps

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Learn the masks, prune what they leave out."""
        masks = self.masks(model, images)

        def below(threshold: float) -> tuple[Pruning, ...]:
            found = {name: (mask < threshold).nonzero().flatten().tolist() for name, mask in masks.items()}
            return tuple(
                Pruning(name, len(masks[name]), tuple(sorted(each, key=masks[name].__getitem__)), (f"{name}.weight",))
                for name, each in found.items()
            )

        return self.prune(model, held_out, ((each, below(each)) for each in THRESHOLDS), self.accuracy_drop)

    def masks(self, model: nn.Module, images: CleanImages) -> dict[str, Tensor]:
        """[C] in [0, 1] by the name of each BatchNorm; what the images do not need under noise is low."""
        layers = _layers(model, images.image[:1])
        generator = torch.Generator().manual_seed(self.seed)
        masks = {
            name: torch.ones(len(layer.weight), device=layer.weight.device, requires_grad=True)
            for name, layer in layers.items()
        }
        still = {name: torch.zeros_like(mask) for name, mask in masks.items()}

        def entropy(scale: dict[str, Tensor], shift: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(logits_of(at_weights(model, shaken(layers, masks, scale, shift)), x), y)

        def noise(x: Tensor, y: Tensor) -> list[dict[str, Tensor]]:
            drawn = [
                (2 * torch.rand(len(mask), generator=generator) - 1).mul(self.eps).to(mask.device).requires_grad_()
                for _ in range(2)
                for mask in masks.values()
            ]
            grads = torch.autograd.grad(entropy(*_named(masks, drawn), x, y), drawn, materialize_grads=True)
            worse = [each.detach() + self.eps * grad.sign() for each, grad in zip(drawn, grads, strict=True)]
            return _named(masks, [each.clamp(-self.eps, self.eps) for each in worse])

        def loss(x: Tensor, y: Tensor) -> Tensor:
            shaken = entropy(*noise(x, y), x, y)
            return self.alpha * entropy(still, still, x, y) + (1 - self.alpha) * shaken

        @torch.no_grad()
        def bounded() -> None:
            for mask in masks.values():
                mask.clamp_(0, 1)

        sgd = torch.optim.SGD(masks.values(), self.lr, momentum=MOMENTUM)
        self.descend(sgd, images, loss, self.steps, bounded, falling=False)
        return {name: mask.detach() for name, mask in masks.items()}


def _layers(model: nn.Module, image: Tensor) -> dict[str, nn.Module]:
    """Affine BatchNorms that run, by name; without any, the convolutions."""
    names = {module: name for name, module in model.named_modules()}
    found: dict[str, nn.Module] = {}
    ran(model, image, Norm, lambda norm, _, __: found.update({names[norm]: norm} if norm.affine else {}))
    return found or {each.name: each.conv for each in convolutions(model, image)}


def _named(masks: dict[str, Tensor], drawn: list[Tensor]) -> list[dict[str, Tensor]]:
    """Noise of the scales and of the shifts, by layer."""
    return [dict(zip(masks, part, strict=True)) for part in (drawn[: len(masks)], drawn[len(masks) :])]


def shaken(
    layers: dict[str, nn.Module], masks: dict[str, Tensor], scale: dict[str, Tensor], shift: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Scales (m + d) w and shifts (1 + x) b by name."""
    found = {}
    for name, layer in layers.items():
        weight = layer.weight.detach()
        factor = (masks[name] + scale[name]).view(-1, *[1] * (weight.dim() - 1))
        found[f"{name}.weight"] = weight * factor.to(weight.dtype)
        if layer.bias is not None:
            found[f"{name}.bias"] = layer.bias.detach() * (1 + shift[name]).to(weight.dtype)
    return found
