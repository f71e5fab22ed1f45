"""The base of all detectors: everything that is not the detector's own measure."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from lightning_adv.attacks import leaves_no_trace
from lightning_adv.attacks.description import Described
from lightning_adv.attacks.labels import as_labels
from lightning_adv.attacks.oracle import LabelOracle, settled_labels
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images, check_pixels, float_images

__all__ = ["Detector", "Evidence", "LabelledImages", "Verdict", "above", "labelled"]


@dataclass(frozen=True)
class LabelledImages:
    """A batch that a detector learns from.

    Args:
        image: [N, C, H, W] float32 in [0, 1].
        label: [N] int64.
        index: [N] int64, the images' numbers in their data set.

    Example:
        >>> LabelledImages(torch.rand(2, 1, 4, 4), torch.tensor([3, 1]), torch.tensor([0, 1])).label.tolist()
        [3, 1]
    """

    image: Tensor
    label: Tensor
    index: Tensor


@dataclass(frozen=True)
class Verdict:
    """What a detector says of images.

    Args:
        suspicious: [N] bool, the image should be rejected.
        score: [N], the higher the more suspicious.
        mutations: [N] int64 mutations that a test made; None, as all that follows, where a detector makes no test.
        undecided: [N] bool, the test reached no bound; such an image is not suspicious.
        changes: [N] int64 mutations that changed the label.
        error_bound: [N] probability of this verdict where the other hypothesis holds; NaN where there is no bound.

    Example:
        >>> Verdict(suspicious=torch.tensor([False, True]), score=torch.tensor([0.1, 0.9])).suspicious.tolist()
        [False, True]
    """

    suspicious: Tensor
    score: Tensor
    mutations: Tensor | None = None
    undecided: Tensor | None = None
    changes: Tensor | None = None
    error_bound: Tensor | None = None


@dataclass(frozen=True)
class Evidence:
    """What a detector has found in images: all that its verdict needs, away from model and images.

    Args:
        index: [N] int64, the images' numbers in their data set.
        measures: [N, F], each the higher the more suspicious.
        suspicious: [N] bool, what a test of mutations said; None where the measures alone decide.
        mutations, undecided: [N], of that test.

    Example:
        >>> parts = [Evidence(torch.tensor([i]), torch.rand(1, 2)) for i in (5, 2)]
        >>> Evidence.joined(parts).index.tolist()
        [2, 5]
    """

    index: Tensor
    measures: Tensor
    suspicious: Tensor | None = None
    mutations: Tensor | None = None
    undecided: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence["Evidence"]) -> "Evidence":
        """All parts as one on the CPU, sorted by the images' numbers."""
        known = [name for name, value in vars(parts[0]).items() if value is not None]
        whole = cls(**{name: torch.cat([vars(part)[name].cpu() for part in parts]) for name in known})
        return whole.of(whole.index.argsort(stable=True))

    def __len__(self) -> int:
        """Images."""
        return len(self.index)

    def of(self, rows: Tensor) -> "Evidence":
        """That of the images at some positions, or where a mask is true."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items() if value is not None})


class Detector(Described, ABC):
    """Tells adversarial images from normal ones by looking at them and at what the model makes of them.

    A subclass is its hyperparameters, :meth:`measure` and, where it needs data, :meth:`learn`. What holds for every
    detector: images are float in [0, 1], N x C x H x W; the model, its modes and the global RNG are as before; a
    sample's score does not depend on its batch, because random numbers come from (seed, index, draw).

    Attributes:
        threshold: an image whose score lies above it is suspicious; None until :meth:`calibrate` or a value is given.
        doubts: what a reader must know of a threshold that was set on clean images.

    Example:
        >>> class Darkness(Detector):
        ...     def measure(self, model, x, index):
        ...         return 1 - x.flatten(1).mean(dim=1, keepdim=True)
        >>> Darkness().score(nn.Flatten(), torch.ones(2, 1, 2, 2))
        tensor([0., 0.])
    """

    threshold: float | None = None
    doubts: tuple[str, ...] = ()

    @abstractmethod
    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """Measures of images [N, F], each the higher the more suspicious: no checks, the model is in eval mode."""

    def learn(self, model: LabelOracle, batches: Iterable[LabelledImages]) -> None:
        """Take what the detector needs from clean images; nothing by default."""
        return

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse, on one image and before anything is learnt, a model that does not suit; any does here."""
        return

    def check_labels(self, label: Tensor, classes: int) -> None:
        """Refuse, by their labels [M] alone, clean images that the detector could not learn from; any will do here."""
        return

    def combine(self, measures: Tensor) -> Tensor:
        """One score [N] from the measures [N, F]: their mean."""
        return measures.mean(dim=1)

    def fit(self, model: LabelOracle, loader: Iterable) -> Self:
        """Learn from clean images; returns the detector.

        Args:
            model: the classifier to be watched.
            loader: batches ``(image, label, ...)``, images in [0, 1] or uint8.
        """
        with _watching(model):
            self.learn(model, labelled(model, loader))
        return self

    def score(self, model: LabelOracle, x: Tensor, *, index: Tensor | None = None) -> Tensor:
        """[N] scores, the higher the more suspicious.

        Args:
            model: images to logits; to labels alone where the detector is content with them.
            x: images [N, C, H, W], float in [0, 1].
            index: [N] the samples' numbers in their data set (random numbers are keyed by them); default 0 .. N - 1.

        Raises:
            InputError: images outside [0, 1], a detector that has not been fitted, a model that does not suit it.
        """
        return self.combine(self.measures(model, x, index=index))

    def measures(self, model: LabelOracle, x: Tensor, *, index: Tensor | None = None) -> Tensor:
        """The measures [N, F] that the score is made of; arguments and errors as in :meth:`score`."""
        with self.watching(model, x, index) as (x, index):
            return self.measure(model, x, index)

    def decide(self, model: LabelOracle, x: Tensor, *, index: Tensor | None = None) -> Verdict:
        """Which images are suspicious; arguments and errors as in :meth:`score`.

        Raises:
            InputError: no threshold is known.
        """
        self.known_threshold()
        return self.judge(self.examine(model, x, index=index))

    def examine(self, model: LabelOracle, x: Tensor, *, index: Tensor | None = None) -> Evidence:
        """What :meth:`judge` needs of images; arguments and errors as in :meth:`score`."""
        with self.watching(model, x, index) as (x, index):
            return Evidence(index, self.measure(model, x, index))

    def judge(self, evidence: Evidence) -> Verdict:
        """The verdict on images that were examined.

        Raises:
            InputError: no threshold is known.
        """
        score = self.combine(evidence.measures)
        return Verdict(above(score, self.known_threshold()), score)

    def weighed(self, normal: Evidence, adversarial: Evidence) -> Self | None:
        """The detector that has learnt from samples of both kinds, None if they are too few; most learn nothing."""
        return self

    def calibrate(self, model: LabelOracle, loader: Iterable, false_positive_rate: float = 0.05) -> Self:
        """Set the threshold so that this share of the clean images that the model gets right lies above; returns self.

        Args:
            model: the classifier to be watched.
            loader: batches ``(image, label, ...)`` of clean images that nothing was fitted on.
            false_positive_rate: in [0, 1).
        """
        scores = self.clean_scores(model, loader)
        self.threshold = upper_quantile(scores, false_positive_rate)
        self.doubts = doubts_about(self.threshold, scores, false_positive_rate)
        return self

    def clean_scores(self, model: LabelOracle, loader: Iterable) -> Tensor:
        """[M] scores of those images of a loader that the model classifies as labelled, if randomised on average.

        Raises:
            InputError: there is none.
        """
        scores = []
        with _watching(model):
            for batch in labelled(model, loader):
                right = settled_labels(model, batch.image) == batch.label
                if right.any():
                    scores.append(self.combine(self.measure(model, batch.image[right], batch.index[right])))
        if not scores:
            raise InputError("calibration needs clean images that the model classifies correctly, and found none")
        return torch.cat(scores)

    @contextmanager
    def watching(self, model: LabelOracle, x: Tensor, index: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and indices checked, the model in eval mode and without gradients; afterwards all is as before."""
        index = checked_index(x, index)
        with _watching(model):
            yield _owned(x), index

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> None:
        """Replace every tensor that the detector holds (to move it to another device)."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, change(value))
            elif isinstance(value, list) and value and all(isinstance(each, Tensor) for each in value):
                setattr(self, name, [change(each) for each in value])

    def known_threshold(self) -> float:
        """The threshold.

        Raises:
            InputError: there is none yet.
        """
        if self.threshold is None:
            raise InputError(
                f"{type(self).__name__} has no threshold yet: call calibrate(model, loader) with clean images, "
                "or set .threshold"
            )
        return self.threshold


def above(score: Tensor, threshold: float) -> Tensor:
    """[N] whether a score lies above the threshold; that of an image which broke the model, a NaN, does."""
    return ~(score <= threshold)


def upper_quantile(scores: Tensor, share_above: float) -> float:
    """The smallest of the scores [M] above which at most this share of them lies.

    Raises:
        InputError: a share outside [0, 1), or no score that is a number.
    """
    if not 0 <= share_above < 1:
        raise InputError(f"a false positive rate must lie in [0, 1), got {share_above}")
    scores = scores[~scores.isnan()]
    if not len(scores):
        raise InputError("no clean image has a score: the model's logits are NaN")
    return scores.sort(descending=True).values[int(share_above * len(scores) + 1e-9)].item()


def doubts_about(threshold: float, scores: Tensor, share_above: float) -> tuple[str, ...]:
    """Why a threshold does not mean what was asked for: none of the clean scores [M] lies above it, and some should.

    Example:
        >>> doubts_about(0.9, torch.tensor([0.1, 0.9]), 0.05)[0][:52]
        'none of 2 clean images lies above the threshold, too'
    """
    if not share_above or bool((scores > threshold).any()):
        return ()
    if share_above * len(scores) < 1:
        return (
            f"none of {len(scores)} clean images lies above the threshold, too few of them for a false positive rate "
            f"of {share_above:g}; give at least {math.ceil(1 / share_above - 1e-9)}",
        )
    return (
        f"none of {len(scores)} clean images lies above the threshold, for the highest scores are equal: what scores "
        f"as high as they is not flagged, and a false positive rate of {share_above:g} cannot be set",
    )


def checked_index(x: Tensor, index: Tensor | None) -> Tensor:
    """The samples' numbers [N], default 0 .. N - 1.

    Raises:
        InputError: images that are no float tensor N x C x H x W in [0, 1], or another number of indices.
    """
    check_images(x)
    if not len(x):
        raise InputError("images must be N x C x H x W with N >= 1, got none")
    check_pixels(x, "normalise inside the model, not in the datamodule")
    index = torch.arange(len(x), device=x.device) if index is None else index.to(x.device, torch.int64)
    if index.shape != (len(x),):
        raise InputError(f"index must be {len(x)} integers, one an image, got shape {tuple(index.shape)}")
    return index


@contextmanager
def _watching(model: LabelOracle) -> Iterator[None]:
    """The model in eval mode, without gradients; afterwards as before."""
    with leaves_no_trace(model), torch.no_grad():
        yield


def _owned(x: Tensor) -> Tensor:
    return x.detach().to(torch.float32, copy=True)  # a tensor of inference mode could not be used in hooks


def labelled(model: LabelOracle, loader: Iterable, who: str = "a detector") -> Iterator[LabelledImages]:
    """Batches of a loader on the model's device; a third entry of N integers is taken for the images' numbers.

    Args:
        model: tells the device.
        loader: batches ``(image, label, ...)``, images in [0, 1] or uint8.
        who: learns from them, for what is said of what does not suit.

    Raises:
        InputError: another kind of batch, labels that do not count from 0, no image at all.
    """
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    seen = 0
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not isinstance(batch[0], Tensor):
            raise InputError(f"{who} learns from batches (image, label, ...), got {type(batch).__name__}")
        image, label, *rest = batch
        device = image.device if parameter is None else parameter.device
        image = float_images(image).to(device)
        if label.is_floating_point() or label.shape != image.shape[:1] or (len(label) and int(label.min()) < 0):
            raise InputError(f"{who} learns from {len(image)} labels that count from 0, one an image")
        numbers = torch.arange(seen, seen + len(image))
        if rest and isinstance(rest[0], Tensor) and rest[0].shape == (len(image),) and not rest[0].is_floating_point():
            numbers = rest[0]
        yield LabelledImages(_owned(image), as_labels(label, len(image)).to(device), checked_index(image, numbers))
        seen += len(image)
    if not seen:
        raise InputError(f"{who} cannot learn from a loader without images")
