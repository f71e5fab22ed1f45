"""A few attacked images, kept to be looked at."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Examples"]


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

    def _vectors(self) -> dict[str, Tensor]:
        return {name: values for name, values in vars(self).items() if name not in ("clean", "adversarial")}
