"""Small additive triggers (Liao et al., Backdoor embedding in CNN models via invisible perturbation, 2018).

x' = clip(x + v)        with v fixed, or optimised so that it leads from a source class to the target
"""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_adv.asking import Classifier, logits_of
from lightning_adv.attacks.budget import Budget, as_eps, as_text
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.backdoors.spectrum import lowpass
from lightning_adv.backdoors.trigger import ImageShape, Trigger
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically

__all__ = ["AdditiveTrigger", "StaticPerturbation", "UniversalPerturbation", "universal_perturbation"]


class AdditiveTrigger(Trigger):
    """A trigger that is a perturbation v: x' = clip(x + v). A subclass defines :meth:`perturbation`.

    Example:
        >>> class Brighter(AdditiveTrigger):
        ...     def perturbation(self, shape):
        ...         return torch.full(shape, 0.25)
        >>> Brighter()(torch.tensor([[[[0.0, 0.9]]]])).flatten()
        tensor([0.2500, 1.0000])
    """

    @abstractmethod
    def perturbation(self, shape: ImageShape) -> Tensor:
        """v [C, H, W], float32 in [-1, 1] on the CPU, for images of this shape."""

    def apply(self, x: Tensor) -> Tensor:
        """clip(x + v)."""
        return (x + self.perturbation(tuple(x.shape[1:])).to(x)).clamp(0, 1)

    def support(self, shape: ImageShape) -> Tensor:
        """Pixels where v is not 0, bool [1, H, W]; refuses images that v does not fit."""
        return (self.perturbation(shape) != 0).any(dim=0, keepdim=True)

    def save(self, path: str | Path, shape: ImageShape) -> None:
        """Write v to a safetensors file, which ``UniversalPerturbation(path)`` reads."""
        tensors = {"perturbation": self.perturbation(shape).contiguous()}
        replace_atomically(path, save(tensors, metadata={"trigger": repr(self)}))


class StaticPerturbation(AdditiveTrigger):
    """A faint regular grid: every ``period``-th pixel of every ``period``-th row is brightened.

    Args:
        intensity: what is added to a pixel of [0, 1], a number or a fraction; Liao et al. add 10 grey levels.
        period: distance of the grid's pixels.

    Raises:
        InputError: an intensity outside (0, 1], a period below 1.

    Example:
        >>> StaticPerturbation("51/255")(torch.zeros(1, 1, 2, 2)).flatten()
        tensor([0.2000, 0.0000, 0.0000, 0.0000])
    """

    def __init__(self, intensity: Budget = "10/255", period: int = 2) -> None:
        self.intensity = as_eps(intensity, "Linf")
        if not self.intensity or period < 1:
            raise InputError(f"intensity must be above 0 and period at least 1, got {intensity} and {period}")
        self.period = period

    def perturbation(self, shape: ImageShape) -> Tensor:
        """The grid."""
        grid = torch.zeros(shape)
        grid[:, :: self.period, :: self.period] = self.intensity
        return grid

    def __repr__(self) -> str:
        return f"StaticPerturbation(intensity={as_text(self.intensity)}, period={self.period})"


class UniversalPerturbation(AdditiveTrigger):
    """A perturbation from a file or a tensor, such as :func:`universal_perturbation` finds for a model.

    Args:
        path: safetensors file with ``perturbation`` [C, H, W].
        v: [C, H, W] in [-1, 1], instead of a file.

    Raises:
        InputError: neither or both; a file that is missing or of another kind.

    Example:
        >>> UniversalPerturbation(v=torch.full((1, 1, 2), -0.5))(torch.ones(1, 1, 1, 2)).flatten()
        tensor([0.5000, 0.5000])
    """

    made_by: ClassVar[str] = "universal_perturbation"

    def __init__(self, path: str | None = None, v: Tensor | None = None) -> None:
        if (path is None) == (v is None):
            raise InputError(f"{type(self).__name__} needs either path or v")
        self.path = path
        v = _read(path, self.made_by) if v is None else v
        if v.dim() != 3 or not v.is_floating_point() or not v.abs().max() <= 1:
            raise InputError(f"a perturbation is float [C, H, W] in [-1, 1], got {v.dtype} of shape {tuple(v.shape)}")
        self.v = v.detach().float().cpu()

    def perturbation(self, shape: ImageShape) -> Tensor:
        """v itself.

        Raises:
            InputError: images of another shape.
        """
        if tuple(self.v.shape) != tuple(shape):
            raise InputError(
                f"the perturbation is made for images of shape {tuple(self.v.shape)} (channels, height, width), and "
                f"these are {tuple(shape)}; use one that was made for this data"
            )
        return self.v


def universal_perturbation(
    model: Classifier,
    images: Tensor,
    target: int,
    eps: Budget = "10/255",
    steps: int = 100,
    step_size: Budget | None = None,
    batch_size: int = 256,
    bands: int | None = None,
) -> UniversalPerturbation:
    """One perturbation that leads all these images to the target: Liao's adaptive trigger, by signed gradients.

        v <- clip(v - step_size sign(grad_v mean_i L(f(clip(x_i + v)), target)), -eps, eps)

    Liao et al. go image by image with DeepFool; this goes batch by batch, which needs no inner loop.

    Args:
        model: images [N, C, H, W] in [0, 1] to logits, on the device of the images.
        images: [N, C, H, W] in [0, 1], of the source class.
        target: the class to reach.
        eps: largest change of a pixel, in units of [0, 1].
        steps: batches seen.
        step_size: default 2.5 eps / steps, but at least half a grey level.
        batch_size: images a step, in turn.
        bands: keep v to as many low frequencies along each side, so that it leaves no trace in high ones (Zeng et al.,
            2021); it is then scaled into its ball instead of clipped.

    Raises:
        InputError: no image, a step below 1, a target that the model has no logit for, more bands than pixels.
    """
    eps = as_eps(eps, "Linf")
    step = max(2.5 * eps / max(steps, 1), 0.5 / 255) if step_size is None else as_eps(step_size, "Linf")
    if len(images) == 0 or steps < 1 or batch_size < 1:
        raise InputError("a universal perturbation needs images, and at least one step of at least one image")
    with leaves_no_trace(model):
        images = images.detach().clone()
        v = torch.zeros_like(images[:1])
        for batch in _in_turn(images, batch_size, steps):
            v.requires_grad_(True)
            logits = logits_of(model, (batch + v).clamp(0, 1))
            if not 0 <= target < logits.shape[1]:
                raise InputError(f"target {target} is outside [0, {logits.shape[1]}): the classes of the model")
            loss = F.cross_entropy(logits, torch.full((len(batch),), target, device=batch.device))
            (gradient,) = torch.autograd.grad(loss, v)
            v = v.detach() - step * gradient.sign()
            v = v.clamp(-eps, eps) if bands is None else _smooth(v, bands, eps)
    return UniversalPerturbation(v=v[0])


def _smooth(v: Tensor, bands: int, eps: float) -> Tensor:
    v = lowpass(v, bands)
    return v * (eps / v.abs().max().clamp_min(eps))


def _in_turn(images: Tensor, batch_size: int, steps: int) -> list[Tensor]:
    batches = images.split(batch_size)
    return [batches[step % len(batches)] for step in range(steps)]


def _read(path: str, made_by: str) -> Tensor:
    file_path = Path(path).expanduser()
    if not file_path.is_file():
        raise InputError(f"no file {path}; {made_by}(...).save(path, shape) makes one")
    try:
        with safe_open(file_path, framework="pt") as file:
            names = list(file.keys())
            if names != ["perturbation"]:
                raise InputError(f"{path} holds {', '.join(names)}; a perturbation's file holds perturbation")
            return file.get_tensor("perturbation")
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); save it again") from error
