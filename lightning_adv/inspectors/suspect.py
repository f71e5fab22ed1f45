"""The model under inspection, with its passes counted, and the clean images that it is inspected with."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lightning_adv.asking import Classifier, InBfloat16, check_labels, is_right, logits_of, quick_convolutions
from lightning_adv.attacks.labels import as_labels
from lightning_adv.attacks.randomised import VERDICT_DRAWS, answered_twice, averaged, each_draw
from lightning_adv.errors import InputError
from lightning_adv.models import computes_in_bf16
from lightning_adv.pixels import check_pixels, float_images

__all__ = ["CleanImages", "Suspect", "check_classes", "fitting", "shuffled_minibatches"]

CACHED, ROOMY = 3 * 2**18, 3 * 2**22
"""Numbers in the images of one forward with a gradient: 256 images of 3 x 32 x 32 on a CPU, 4,096 elsewhere."""


class Suspect:
    """A classifier whose forwards are counted.

    Args:
        model: images [N, C, H, W] to logits [N, K].

    Example:
        >>> suspect = Suspect(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
        >>> suspect(torch.rand(2, 1, 2, 2)).shape, suspect.launches, suspect.image_passes
        (torch.Size([2, 3]), 1, 2)
    """

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.launches = self.image_passes = 0
        self.randomised = False
        self.searched_low = False
        self._quick = True
        self._lowered: InBfloat16 | None = None

    def __call__(self, x: Tensor, search: bool = False) -> Tensor:
        """Logits [N, K] in float32; a ``search`` may have them by bfloat16, see :meth:`lower`."""
        self.launches += 1
        self.image_passes += len(x)
        low = search and self._lowered is not None
        self.searched_low |= low
        with quick_convolutions(x.device) if self._quick else nullcontext():
            return self._lowered(x) if low else logits_of(self.model, x)

    def lower(self, x: Tensor, bf16: bool | None) -> bool:
        """Search in bfloat16 between the first and the last layer, or no longer; whether it does.

        Args:
            x: images [N, C, H, W] to find out with.
            bf16: whether to; None does where the device has instructions for it and the model can.

        Raises:
            InputError: the model cannot.
        """
        self._lowered = None
        if bf16 or (bf16 is None and computes_in_bf16(x.device)):
            try:
                with quick_convolutions(x.device) if self._quick else nullcontext():
                    self._lowered = InBfloat16(self.model, x[:1])
            except InputError:
                if bf16:
                    raise
        return self._lowered is not None

    def classes(self, x: Tensor) -> int:
        """Number of classes, from one forward; a second one, which is not counted, tells a randomised model.

        Raises:
            InputError: a forward that does not give logits.
        """
        try:
            with quick_convolutions(x.device):
                logits, self.randomised = answered_twice(self.model, x)
        except RuntimeError:  # a view of channels that do not lie together, unless it breaks in any case
            self._quick = False
            logits, self.randomised = answered_twice(self.model, x)
        self.launches += 1
        self.image_passes += len(x)
        return logits.shape[1]

    @torch.no_grad()
    def verdict(self, x: Tensor) -> Tensor:
        """Logits [N, K] that name the class of an image: of a randomised model the mean over draws of their own."""
        return averaged(each_draw(lambda _: self(x), VERDICT_DRAWS)) if self.randomised else self(x)

    @torch.no_grad()
    def success_rate(self, x: Tensor, mask: Tensor, pattern: Tensor, label: int, search: bool = False) -> float:
        """Share of images [N, C, H, W] that (1 - mask) x + mask pattern sends to the class; as a ``search`` sees it."""
        ask = partial(self, search=True) if search else self.verdict
        parts = x.split(fitting(x))
        return int(sum(is_right(ask(part.lerp(pattern, mask)), label).sum() for part in parts)) / len(x)


def fitting(images: Tensor) -> int:
    """How many images like these [N, C, H, W] go into one forward with a gradient, at least 1.

    On a CPU, more than its cache can hold of a small net's activations cost up to twice as much an image. A GPU wants
    many, but has an end: those of a thousand classes at once would not fit.

    Example:
        >>> fitting(torch.zeros(1, 3, 32, 32)), fitting(torch.zeros(1, 3, 2048, 2048))
        (256, 1)
    """
    return max(1, (CACHED if images.device.type == "cpu" else ROOMY) // images[0].numel())


@dataclass(frozen=True)
class CleanImages:
    """Clean images on the model's device.

    Args:
        image: [N, C, H, W] float32 in [0, 1].
        label: [N] int64, None where they have none.

    Example:
        >>> CleanImages.of([(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))], lambda x: x).label
        tensor([0, 1])
    """

    image: Tensor
    label: Tensor | None = None

    @classmethod
    def of(cls, images: Tensor | Iterable[Tensor | Sequence[Tensor]], model: Classifier) -> "CleanImages":
        """Collect a tensor or batches; uint8 is divided by 255.

        Raises:
            InputError: nothing there, or no images in [0, 1].
        """
        batches = [images] if isinstance(images, Tensor) else list(images)
        pairs = [_image_and_label(batch) for batch in batches]
        if not sum(len(image) for image, _ in pairs):
            raise InputError("an inspection needs clean images, and there are none")
        device = (
            next(iter(model.parameters()), pairs[0][0]).device if isinstance(model, nn.Module) else pairs[0][0].device
        )
        # Copies made here can take part in gradients, which tensors of inference mode cannot.
        image = torch.cat([float_images(each).to(device, copy=True) for each, _ in pairs])
        check_pixels(image, "normalise inside the model, not in the data")
        image.clamp_(0, 1)
        labelled = all(label is not None for _, label in pairs)
        return cls(
            image, torch.cat([label.to(device, torch.int64, copy=True) for _, label in pairs]) if labelled else None
        )


def check_classes(label: Tensor, classes: int, allow_missing: bool) -> list[str]:
    """Warnings about classes that have no image.

    Args:
        label: [N] of the clean images.
        classes: of the model.
        allow_missing: warn of a class without an image instead of refusing it.

    Raises:
        InputError: labels that the model does not know; images of one class only; a class without an image.
    """
    check_labels(label, classes)
    present = label.unique().tolist()
    if len(present) == 1:
        raise InputError(
            f"all {len(label)} clean images are of class {present[0]}: the trigger of a class needs images of other "
            "classes to turn; give images of every class"
        )
    missing = [str(each) for each in range(classes) if each not in present]
    if not missing:
        return []
    shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
    said = f"{len(missing)} of {classes} classes have no clean image ({shown})"
    if not allow_missing:
        raise InputError(
            f"{said}: no trigger can be tried on them; give images of every class (a larger max_samples, where one is "
            "set), or allow_missing_classes: true to inspect with those there are"
        )
    return [
        f"{said}: no trigger is tried on them; the triggers of all {classes} classes are tried on images of "
        f"{len(present)}"
    ]


def shuffled_minibatches(images: Tensor, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless minibatches [B, C, H, W]: one permutation after another, seeded, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.zeros(0, dtype=torch.long)
    while True:
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(len(images), generator=generator)])
        chosen, waiting = waiting[:batch_size], waiting[batch_size:]
        yield images[chosen.to(images.device)]


def _image_and_label(batch: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    image, label = (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[1] if len(batch) > 1 else None)
    if not isinstance(image, Tensor) or image.dim() != 4:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise InputError(f"clean images must be tensors [N, C, H, W] or batches (image, label, ...) of them, got {got}")
    return image.detach(), None if label is None else as_labels(label, len(image))
