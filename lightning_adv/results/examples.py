"""A few attacked images, kept to be looked at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_adv.pixels import visible
from lightning_adv.results.result import Tile

__all__ = ["Examples", "magnification"]


@dataclass(frozen=True)
class Examples:
    """A few attacked images with what the model said, as CPU tensors.

    Args:
        clean, adversarial: images [N, C, H, W] in [0, 1].
        labels, clean_predictions, adversarial_predictions: class indices [N].
        clean_confidences, adversarial_confidences: probabilities of the predictions [N].

    Raises:
        ValueError: the two sets of images differ in shape, or a vector is not as long as they are.
    """

    clean: Tensor
    adversarial: Tensor
    labels: Tensor
    clean_predictions: Tensor
    adversarial_predictions: Tensor
    clean_confidences: Tensor
    adversarial_confidences: Tensor

    def __post_init__(self) -> None:
        if self.clean.shape != self.adversarial.shape:
            raise ValueError(f"examples differ in shape: {list(self.clean.shape)}, {list(self.adversarial.shape)}")
        for name, values in self._vectors().items():
            if values.shape != self.clean.shape[:1]:
                raise ValueError(f"{name} {list(values.shape)} does not fit {len(self.clean)} images")

    def __len__(self) -> int:
        return len(self.clean)

    def as_dict(self) -> dict:
        """Labels, predictions, confidences and sizes of the perturbations; the pixels are in the picture."""
        difference = (self.adversarial - self.clean).flatten(1)
        return {name: values.tolist() for name, values in self._vectors().items()} | {
            "linf": difference.abs().amax(1).tolist(),
            "l2": difference.norm(dim=1).tolist(),
        }

    def tiles(
        self, class_names: Sequence[str], changed: str = "under attack", wrong: str = "Fooled", right: str = "Withstood"
    ) -> dict[str, list[Tile]]:
        """Clean image, changed image and their difference of each sample: those that deceive the model, and the others.

        Args:
            class_names: of the K classes.
            changed: what the second image is called.
            wrong, right: headings of images that the model then gets wrong, and right.
        """
        tiles = [self._tile(i, class_names, changed) for i in range(len(self))]
        fooled = (self.adversarial_predictions != self.labels).tolist()
        groups = {name: [t for t, each in zip(tiles, fooled, strict=True) if each == kind]
                  for name, kind in ((wrong, True), (right, False))}  # fmt: skip
        return {name: group for name, group in groups.items() if group}

    def _tile(self, i: int, names: Sequence[str], changed: str) -> Tile:
        difference = self.adversarial - self.clean
        label, before, after = (
            int(each[i]) for each in (self.labels, self.clean_predictions, self.adversarial_predictions)
        )
        sure = [float(each[i]) for each in (self.clean_confidences, self.adversarial_confidences)]
        said = [f"{_named(k, names)}{f' {100 * share:.0f}%' if share == share else ''}"
                for k, share in zip((before, after), sure, strict=True)]  # fmt: skip
        largest = f"{float(difference[i].abs().max()):.3g}"
        return Tile(
            images=_beside(visible(self.clean[i]), visible(self.adversarial[i]), magnification(difference)),
            title=_named(label, names),
            lines=[(f"clean: {said[0]}", before == label), (f"{changed}: {said[1]}", after == label)],
            alt=f"{_named(label, names)}, clean, {changed} and the difference of at most {largest}: "
            f"taken for {said[0]}, then for {said[1]}.",
        )

    def _vectors(self) -> dict[str, Tensor]:
        return {name: values for name, values in vars(self).items() if name not in ("clean", "adversarial")}


def magnification(difference: Tensor) -> float:
    """The largest round factor that takes no difference past 1.

    Example:
        >>> magnification(torch.tensor([0.2, -0.03])), magnification(torch.zeros(2))
        (5.0, 1.0)
    """
    largest = float(difference.abs().max())
    if largest == 0:
        return 1.0
    room = 1.0 / largest
    power = 10.0 ** math.floor(math.log10(room))
    # The tolerance lets a difference of float(0.2) be magnified by 5, not 3.
    return max(1.0, max(step * power for step in (1, 2, 3, 5) if step * power <= room * 1.001))


def _beside(clean: Tensor, changed: Tensor, factor: float) -> Tensor:
    """[3, 3, H, W] in colour: grey stands for no difference; of grey images red for lighter and blue for darker."""
    difference = factor * (changed - clean)
    if len(clean) == 3:
        return torch.stack([clean, changed, 0.5 + 0.5 * difference]).float().clamp(0, 1)
    up, down = difference.clamp(min=0), (-difference).clamp(min=0)
    coloured = 1 - torch.cat([down, up + down, up])
    return torch.stack([clean.expand(3, -1, -1), changed.expand(3, -1, -1), coloured]).float().clamp(0, 1)


def _named(label: int, names: Sequence[str]) -> str:
    return "no class" if label < 0 else names[label] if label < len(names) else str(label)
