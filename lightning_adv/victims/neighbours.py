"""k nearest neighbours, and Papernot's differentiable version of one nearest neighbour (2016, section 2.5).

f(x) = sum_z exp(-||z - x||^2 / T) one_hot(y_z) / sum_z exp(-||z - x||^2 / T)
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.victims.victim import LEAST_PROBABILITY, Victim

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

__all__ = ["NearestNeighboursVictim", "SoftNearestNeighbours"]


class NearestNeighboursVictim(Victim):
    """The classes of the k nearest training images, in Euclidean distance; :meth:`twin` is the soft version.

    Args:
        neighbours: k.
        temperature: of the twin, in squared pixel units; the lower, the nearer to k = 1.
        seed: unused by the fit, which is deterministic.

    Raises:
        InputError: k below 1, a temperature that is not positive; when called, fewer training images than k.

    Example:
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> victim = NearestNeighboursVictim(neighbours=1, temperature=0.01).fit(x, y)
        >>> torch.equal(victim(x).argmax(dim=1), victim.twin()(x).argmax(dim=1))
        True
    """

    def __init__(self, neighbours: int = 5, temperature: float = 1.0, seed: int = 0) -> None:
        super().__init__(seed)
        if neighbours < 1 or temperature <= 0:
            raise InputError(
                f"neighbours must be at least 1 and temperature positive, got {neighbours} and {temperature}"
            )
        self.neighbours, self.temperature = neighbours, temperature
        self._images, self._labels = torch.zeros(0), torch.zeros(0, dtype=torch.int64)

    def estimator(self) -> "ClassifierMixin":
        """scikit-learn's ``KNeighborsClassifier``."""
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(self.neighbours, algorithm="brute")

    def fit(self, images: Tensor, labels: Tensor) -> "NearestNeighboursVictim":
        """Keep the images; errors as for any victim."""
        if len(images) < self.neighbours:
            raise InputError(f"{self.neighbours} nearest neighbours need as many training images, got {len(images)}")
        super().fit(images, labels)
        self._images, self._labels = images.detach().cpu().clone(), labels.cpu().clone()
        return self

    def twin(self) -> "SoftNearestNeighbours":
        """Papernot's soft nearest neighbour over the same images."""
        self.learnt()
        return SoftNearestNeighbours(self._images, self._labels, self.temperature)


class SoftNearestNeighbours(nn.Module):
    """Every training image votes for its class with weight exp(-squared distance / T): differentiable everywhere.

    Args:
        images: [M, C, H, W] training images.
        labels: [M].
        temperature: T, in squared pixel units.

    Example:
        >>> x, y = torch.rand(6, 1, 2, 2), torch.arange(6) % 3
        >>> SoftNearestNeighbours(x, y, temperature=0.01)(x).argmax(dim=1)
        tensor([0, 1, 2, 0, 1, 2])
    """

    def __init__(self, images: Tensor, labels: Tensor, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("rows", images.flatten(1).float())
        self.register_buffer("members", F.one_hot(labels).float())  # [M, K]

    def forward(self, image: Tensor) -> Tensor:
        """Log-probabilities [N, K] of images [N, C, H, W]."""
        x = image.flatten(1).float()
        distance = x.square().sum(dim=1, keepdim=True) - 2 * x @ self.rows.T + self.rows.square().sum(dim=1)  # [N, M]
        near = -distance / self.temperature
        votes = near - near.logsumexp(dim=1, keepdim=True)  # log of each image's weight
        # The largest exponent of each row is taken out, so that far images do not underflow together with near ones.
        top = votes.amax(dim=1, keepdim=True)
        share = ((votes - top).exp() @ self.members).clamp_min(LEAST_PROBABILITY)
        return share.log() + top
