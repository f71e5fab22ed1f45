"""A classifier of another learning technique, called like a module: images to logits."""

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images, check_pixels

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

__all__ = ["LEAST_PROBABILITY", "UNSEEN", "Victim"]

LEAST_PROBABILITY = 1e-12
"""Where a technique says 0, so that logarithms stay finite."""

UNSEEN = -1e4
"""Logit of a class that no training image had."""


class Victim(nn.Module, ABC):
    """A scikit-learn classifier with the calling convention of a module: images [N, C, H, W] to logits [N, K].

    It has no gradient. Attacks that ask only for logits (``Square``) or labels (``SubstituteAttack``) take it as it
    is, and :meth:`twin` gives the differentiable module that computes the same where there is one. Everything is
    computed on the CPU in float64 from float32 images; the logits are float32 on the images' device.

    A subclass makes its estimator in :meth:`estimator`.

    Args:
        seed: of everything random in the fit.

    Example:
        >>> from lightning_adv.victims import DecisionTreeVictim
        >>> x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 3
        >>> victim = DecisionTreeVictim().fit(x, y)
        >>> bool((victim(x).argmax(dim=1) == y).all())
        True
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.fitted: ClassifierMixin | None = None
        self.num_classes = 0

    @abstractmethod
    def estimator(self) -> "ClassifierMixin":
        """A new scikit-learn classifier, not fitted."""

    def fit(self, images: Tensor, labels: Tensor) -> "Victim":
        """Learn from images [N, C, H, W] in [0, 1] and labels [N]; returns itself.

        Raises:
            InputError: shapes that do not fit each other, images outside [0, 1], fewer than two classes.
        """
        what = f"images that {type(self).__name__} learns from"
        check_images(images, what)
        if labels.shape != (len(images),) or labels.is_floating_point():
            raise InputError(
                f"{type(self).__name__} learns from {len(images)} images and as many labels: N images need N integer "
                f"labels, got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        if not len(images):
            raise InputError(f"{type(self).__name__} needs images to learn from, got none")
        check_pixels(images, "divide uint8 images by 255", what)
        if len(labels.unique()) < 2:
            raise InputError(f"{type(self).__name__} needs images of at least two classes, got {labels[0].item()} only")
        self.num_classes = int(labels.max()) + 1
        self.fitted = self.estimator()
        with warnings.catch_warnings():
            # A victim need not be the optimum of its objective: attacks are asked of the classifier as it is.
            warnings.filterwarnings("ignore", message=".*failed to converge.*")
            self.fitted.fit(_rows(images), labels.cpu().numpy())
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N, K] float32; their argmax is what the classifier predicts.

        Raises:
            InputError: not fitted yet, or asked for a gradient.
        """
        fitted = self.learnt()
        if torch.is_grad_enabled() and image.requires_grad:
            raise InputError(
                f"{type(self).__name__} has no gradient: attack its twin() if it has one, or a substitute "
                "(SubstituteAttack), and judge the images on it"
            )
        if not len(image):
            return image.new_zeros(0, self.num_classes, dtype=torch.float32)
        scores = self._scores(fitted, _rows(image))  # [N, classes seen]
        every = np.full((len(scores), self.num_classes), UNSEEN)
        every[:, fitted.classes_] = scores
        return torch.from_numpy(every).float().to(image.device)

    def twin(self) -> nn.Module:
        """A differentiable module with the same logits.

        Raises:
            InputError: the technique has none.
        """
        raise InputError(f"{type(self).__name__} has no differentiable twin; attack a substitute (SubstituteAttack)")

    def _scores(self, fitted: "ClassifierMixin", rows: np.ndarray) -> np.ndarray:
        """[N, classes seen]; by default log-probabilities."""
        return np.log(np.maximum(fitted.predict_proba(rows), LEAST_PROBABILITY))

    def learnt(self) -> "ClassifierMixin":
        """The classifier of scikit-learn that :meth:`fit` has made.

        Raises:
            InputError: not fitted yet.
        """
        if self.fitted is None:
            raise InputError(f"{type(self).__name__} has not learnt anything yet: call fit(images, labels) first")
        return self.fitted


def _rows(images: Tensor) -> np.ndarray:
    return images.detach().flatten(1).cpu().double().numpy()
