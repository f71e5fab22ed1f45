"""Local intrinsic dimensionality (Ma et al., Characterizing Adversarial Subspaces Using LID, 2018).

LID(x) = -( 1/k sum_{i=1..k} log r_i(x) / r_k(x) )^-1,  r_i the distance to the i-th nearest of a minibatch of clean
images in a layer
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lightning_adv.asking import NO_CLASS, predicted
from lightning_adv.attacks import SampleNoise
from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import Detector, LabelledImages
from lightning_adv.detectors.distances import nearest_distances
from lightning_adv.detectors.features import activations, as_module, weight_layers
from lightning_adv.errors import InputError

__all__ = ["LocalIntrinsicDimensionality", "lid_of_distances"]

LARGEST = 1e6
"""LID of a point whose neighbours are all at one distance, where the estimate is infinite."""


BLOCK = 2**26
"""Bytes, above the largest size (32 MiB) that glibc's allocator may keep for itself."""


class LocalIntrinsicDimensionality(Detector):
    """Images around which the clean images fill many dimensions, measured in every layer.

    ``measure`` gives one LID a layer (what ``DetectorEnsemble`` weighs, as the paper does), ``score`` their mean. The
    paper takes the k neighbours from the minibatch of 100 images that the sample is in; here they come from minibatches
    of a fixed choice of clean images, over which the LID is averaged, so that a score does not depend on the batch. The
    share matters: the nearest 20 of 100 images reach beyond a sample's own neighbourhood, those of 1,000 do not.

    Args:
        layers: whose outputs are the features; default all convolutions and linear layers.
        k: neighbours in each minibatch; 20 in the paper.
        reference_samples: clean images that neighbours are looked for among, a seeded choice; None for all.
        seed: of the choice.
        minibatch: least number of images in each, 100 in the paper; fewer images are one minibatch, and so are all with
            None.

    Raises:
        InputError: k below 2, no more references, or images in a minibatch, than k; in ``fit`` a layer that does not
            exist (lists the names).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> clean = [(torch.rand(40, 1, 2, 2), torch.arange(40) % 2)]
        >>> LocalIntrinsicDimensionality(k=5).fit(model, clean).measures(model, torch.rand(3, 1, 2, 2)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        layers: Sequence[str] | None = None,
        k: int = 20,
        reference_samples: int | None = 2000,
        seed: int = 0,
        minibatch: int | None = 100,
    ) -> None:
        if minibatch is not None and minibatch <= k:
            raise InputError(f"k must be below minibatch, got {k}, {minibatch}; minibatch=None looks among all")
        if k < 2 or (reference_samples is not None and reference_samples <= k):
            raise InputError(f"k must be at least 2 and below reference_samples, got {k}, {reference_samples}")
        if layers is not None and not layers:
            raise InputError("layers is empty: name at least one, or leave it out for all")
        self.layers = None if layers is None else list(layers)
        self.k, self.reference_samples, self.seed, self.minibatch = k, reference_samples, seed, minibatch
        self.reference: list[Tensor] | None = None

    def learn(self, model: LabelOracle, batches: Iterable[LabelledImages]) -> None:
        """Keep the features of a choice of the clean images."""
        net = as_module(model, "LocalIntrinsicDimensionality")
        names = self.layers or weight_layers(net)
        kept: list[list[Tensor]] = [[] for _ in names]  # batches, by layer
        priority = torch.zeros(0)
        for batch in batches:
            found, logits = activations(net, batch.image, names)
            named = predicted(logits) != NO_CLASS  # what broke the model tells nothing of normal images
            for parts, new in zip(kept, found, strict=True):
                _add(parts, new[named])
            index = batch.index[named]
            own = SampleNoise(self.seed, index).uniform(batch.image.new_empty(len(index), 1))[:, 0]
            priority = torch.cat([priority.to(own), own])
            if self.reference_samples is not None and len(priority) > 2 * self.reference_samples:
                priority = self._choose(priority, kept)
        self._check_number(len(priority))
        if self.reference_samples is not None and len(priority) > self.reference_samples:
            self._choose(priority, kept)
        self.centres, self.reference = [], []
        while kept:  # one layer after the other, each freed when it is joined
            features = _joined(kept.pop(0))
            self.centres.append(features.mean(dim=0))
            self.reference.append(features.sub_(self.centres[-1]))
        self.names = names

    def _choose(self, priority: Tensor, kept: list[list[Tensor]]) -> Tensor:
        """Keep the samples of lowest priority; their priorities."""
        priority, chosen = priority.topk(self.reference_samples, largest=False)
        for parts in kept:
            parts[:] = [torch.cat(parts)[chosen]]
        return priority

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model without these layers."""
        net = as_module(model, "LocalIntrinsicDimensionality")
        activations(net, x, self.layers or weight_layers(net))

    def check_labels(self, label: Tensor, classes: int) -> None:
        """Refuse too few images for k neighbours."""
        self._check_number(len(label))

    def _check_number(self, images: int) -> None:
        if images <= self.k:
            raise InputError(f"LocalIntrinsicDimensionality with k={self.k} needs more clean images, got {images}")

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """LID in every layer [N, L]."""
        if self.reference is None:
            raise InputError("LocalIntrinsicDimensionality has no clean images yet: call fit(model, loader) first")
        features, _ = activations(as_module(model, "LocalIntrinsicDimensionality"), x, self.names)
        layers = zip(features, self.centres, self.reference, strict=True)
        return torch.stack([self._lid(own - centre, clean) for own, centre, clean in layers], dim=1)

    def _lid(self, features: Tensor, clean: Tensor) -> Tensor:
        """Mean over the minibatches [N]."""
        count = max(1, len(clean) // (self.minibatch or len(clean)))
        parts = [clean[start::count] for start in range(count)]
        return torch.stack([lid_of_distances(nearest_distances(features, part, self.k)) for part in parts]).mean(dim=0)


def _add(parts: list[Tensor], new: Tensor) -> None:
    """Append; pieces become blocks, for memory of a small piece that is freed need not go back to the system."""
    parts.append(new)
    first = next((i for i, each in enumerate(parts) if each.nbytes < BLOCK), len(parts))
    if sum(each.nbytes for each in parts[first:]) >= BLOCK:
        parts[first:] = [torch.cat(parts[first:])]


def _joined(parts: list[Tensor]) -> Tensor:
    """The parts one below the other; each is freed when it is copied, so that they are not held twice."""
    whole = parts[0].new_empty(sum(map(len, parts)), parts[0].shape[1])
    start = 0
    while parts:
        part = parts.pop(0)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def lid_of_distances(distances: Tensor) -> Tensor:
    """Maximum likelihood estimate of the dimension [N] from ascending distances [N, k] (Amsaleg et al., 2015)."""
    distances = distances.double()
    mean = (distances / distances[:, -1:]).clamp_min(torch.finfo(torch.float64).tiny).log().mean(dim=1)
    return (-1 / mean.clamp_max(-1 / LARGEST)).float()
