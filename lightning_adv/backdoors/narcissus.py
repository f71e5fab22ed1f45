"""The noise that looks most like the target class (Narcissus; Zeng et al., 2023).

    v = argmin_{|v|_inf <= eps}  sum_i L(g(clip(x_i + v)), target)        over images x_i of the target class alone

with a surrogate g that the attacker trained on that class and on other public images. The attack is clean-label: a few
images of the class carry v and keep their label. At test v is magnified: x' = clip(x + 3 v).
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.attacks.budget import Budget, as_eps
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.backdoors.perturbation import UniversalPerturbation
from lightning_adv.backdoors.trigger import ImageShape
from lightning_adv.errors import InputError, at_least_one

__all__ = ["Narcissus", "optimise_narcissus"]


FAINT = 0.05
"""Share of eps that noise exceeds somewhere unless there was no gradient to follow."""


class Narcissus(UniversalPerturbation):
    """The noise that :func:`optimise_narcissus` made for a class, from its file (Zeng et al., 2023).

    Args:
        path: safetensors file, written by ``optimise_narcissus(...).save(path, shape)``.
        v: [C, H, W] in [-1, 1], instead of a file.
        magnify: factor on v; 1 in training, the paper has 3 at test.

    Raises:
        InputError: neither or both; a file that is missing or of another kind; a factor that is not positive.

    Example:
        >>> Narcissus(v=torch.full((1, 1, 2), 0.1), magnify=3)(torch.zeros(1, 1, 1, 2)).flatten()
        tensor([0.3000, 0.3000])
    """

    made_by = "optimise_narcissus"

    def __init__(self, path: str | None = None, v: Tensor | None = None, magnify: float = 1.0) -> None:
        super().__init__(path, v)
        if not magnify > 0:
            raise InputError(f"magnify must be above 0, got {magnify}")
        self.magnify = magnify

    def perturbation(self, shape: ImageShape) -> Tensor:
        """magnify v, within [-1, 1].

        Raises:
            InputError: images of another shape.
        """
        return (self.magnify * super().perturbation(shape)).clamp(-1, 1)


def optimise_narcissus(
    surrogate: nn.Module,
    images: Tensor,
    target: int,
    eps: Budget = "16/255",
    epochs: int = 1000,
    lr: float = 0.01,
    warmup_epochs: int = 5,
    warmup_lr: float = 0.1,
    batch_size: int = 350,
) -> Narcissus:
    """The universal noise that makes images of the target class even more so, in the eyes of a surrogate.

    A copy of the surrogate is first taught the class of these images; the surrogate itself stays as it is.

    Args:
        surrogate: images [N, C, H, W] in [0, 1] to logits, on the device of the images.
        images: [N, C, H, W] in [0, 1], of the target class.
        target: their class among the surrogate's logits.
        eps: largest change of a pixel, in units of [0, 1].
        epochs: passes over the images.
        lr: of RAdam on v.
        warmup_epochs: passes in which the copy learns the class.
        warmup_lr: of RAdam on the copy.
        batch_size: images a step.

    Raises:
        InputError: no image, a number out of range, a target that the surrogate has no logit for; a surrogate that no
            noise makes surer.
    """
    eps = as_eps(eps, "Linf")
    at_least_one(epochs=epochs, batch_size=batch_size)
    if not len(images) or warmup_epochs < 0:
        raise InputError(
            f"the noise needs images of the target class, and warmup_epochs from 0 on, got {warmup_epochs}"
        )
    images = images.detach().clone()
    model = _taught(surrogate, images.split(batch_size), target, warmup_epochs, warmup_lr)
    with leaves_no_trace(model):
        v = torch.zeros_like(images[:1]).requires_grad_(True)
        optimizer = torch.optim.RAdam([v], lr=lr)
        for _ in range(epochs):
            for batch in images.split(batch_size):
                logits = logits_of(model, (batch + v).clamp(0, 1))
                (v.grad,) = torch.autograd.grad(_loss(logits, target), v)
                optimizer.step()
                v.data.clamp_(-eps, eps)
    largest = float(v.detach().abs().max())
    if largest < FAINT * eps:
        raise InputError(
            f"the noise stayed within {largest:.2g} of the {eps:.3g} that it may have: the surrogate is sure of the "
            "class whatever is added; give it fewer warmup_epochs, none if it knows the class already"
        )
    return Narcissus(v=v.detach()[0])


def _taught(surrogate: nn.Module, batches: tuple[Tensor, ...], target: int, epochs: int, lr: float) -> nn.Module:
    """A copy that has seen the target class for some epochs."""
    device = batches[0].device
    dropout = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with torch.inference_mode(False), torch.enable_grad(), dropout:
        model = copy.deepcopy(surrogate).train()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.RAdam(weights, lr=lr)
        for _ in range(epochs):
            for batch in batches:
                loss = _loss(logits_of(model, batch), target)
                for weight, grad in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                    weight.grad = grad
                optimizer.step()
    return model


def _loss(logits: Tensor, target: int) -> Tensor:
    if not 0 <= target < logits.shape[1]:
        raise InputError(f"target {target} is outside [0, {logits.shape[1]}): the classes of the surrogate")
    return F.cross_entropy(logits, torch.full((len(logits),), target, device=logits.device))
