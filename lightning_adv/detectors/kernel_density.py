"""Kernel density in the last hidden layer (Feinman et al., Detecting Adversarial Samples from Artifacts, 2017).

score(x) = -log 1/|X_c| sum_{x_i in X_c} exp(-|z(x) - z(x_i)|^2 / (2 h^2)),  c the class that the model predicts
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import Detector, LabelledImages
from lightning_adv.detectors.distances import class_log_densities, nearest_distances
from lightning_adv.detectors.features import activations, as_module, by_class, of_predicted
from lightning_adv.errors import InputError

__all__ = ["KernelDensity", "cross_validated_bandwidth"]

FOLDS = 3
CANDIDATES = 2.0 ** torch.linspace(-3, 3, 25)
"""Bandwidths tried, times the median distance to the nearest neighbour of the class."""

MOST = 2000
"""Images that the bandwidth is chosen on."""


class KernelDensity(Detector):
    """Images that lie where the clean images of their predicted class are rare.

    Args:
        layer: whose output is the feature; default the last hidden layer (input of the last linear one).
        bandwidth: h, in units of the features (Feinman et al.: MNIST 1.2, CIFAR-10 .26); default the one of highest
            held-out likelihood.

    Raises:
        InputError: a bandwidth that is not positive; in ``fit`` a layer that does not exist (lists the names), a class
            without images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> clean = [(torch.rand(40, 1, 2, 2), torch.arange(40) % 2)]
        >>> KernelDensity().fit(model, clean).score(model, torch.rand(3, 1, 2, 2)).shape
        torch.Size([3])
    """

    def __init__(self, layer: str | None = None, bandwidth: float | None = None) -> None:
        if bandwidth is not None and bandwidth <= 0:
            raise InputError(f"bandwidth must be positive, got {bandwidth}")
        self.layer, self.bandwidth = layer, bandwidth
        self.chosen_bandwidth = bandwidth
        self.reference: Tensor | None = None

    def learn(self, model: LabelOracle, batches: Iterable[LabelledImages]) -> None:
        """Keep the features of clean images, by class."""
        features, label, self.classes = by_class(as_module(model, "KernelDensity"), batches, self.layer)
        self.check_labels(label, self.classes)
        self.centre = features.mean(dim=0)  # squared distances keep more digits near the origin
        self.reference = features - self.centre
        self.counts = torch.bincount(label, minlength=self.classes).tolist()
        self.chosen_bandwidth = self.bandwidth or cross_validated_bandwidth(self.reference, label)

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model without that layer."""
        activations(as_module(model, "KernelDensity"), x, [self.layer])

    def check_labels(self, label: Tensor, classes: int) -> None:
        """Refuse a class with too few images."""
        _check_classes(label, classes, at_least=1 if self.bandwidth else FOLDS)

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """Minus the log density under the predicted class [N, 1]."""
        if self.reference is None:
            raise InputError("KernelDensity has no clean images yet: call fit(model, loader) first")
        (feature,), logits = activations(as_module(model, "KernelDensity"), x, [self.layer])
        width = feature.new_tensor([self.chosen_bandwidth])
        queries = feature - self.centre
        density = class_log_densities(queries, self.reference, self.counts, width)[0]
        return -of_predicted(density, logits)


def cross_validated_bandwidth(features: Tensor, label: Tensor) -> float:
    """The h of highest mean log likelihood of held-out images under the density of their own class, in three folds.

    Args:
        features: [M, D], sorted by class.
        label: [M], ascending.
    """
    chosen = torch.linspace(0, len(label) - 1, min(MOST, len(label)), device=label.device).long()
    features, label = features[chosen], label[chosen]
    fold = torch.arange(len(label), device=label.device) % FOLDS
    gaps = [nearest_distances(features[label == c], features[label == c], 1) for c in label.unique()]
    scale = torch.cat(gaps).median().clamp_min(torch.finfo(torch.float32).tiny ** 0.5)
    widths = CANDIDATES.to(features) * scale
    likelihood = torch.zeros(len(widths), dtype=torch.float64, device=features.device)
    for held_out in range(FOLDS):
        out = fold == held_out
        counts = torch.bincount(label[~out], minlength=int(label.max()) + 1).tolist()
        density = class_log_densities(features[out], features[~out], counts, widths)
        own = density.gather(2, label[out].expand(len(widths), -1)[:, :, None])[:, :, 0]  # [H, N]
        likelihood += own.double().clamp_min(-1e30).sum(dim=1)  # a class may lie in one fold alone
    likelihood -= len(label) * features.shape[1] * widths.double().log()
    return widths[likelihood.argmax()].item()


def _check_classes(label: Tensor, classes: int, at_least: int) -> None:
    counts = torch.bincount(label, minlength=classes)[:classes]
    empty = (counts < at_least).nonzero().flatten().tolist()
    if empty:
        raise InputError(
            f"KernelDensity needs at least {at_least} clean image{'s' if at_least > 1 else ''} of each of the "
            f"{classes} classes, and class {empty[0]} has {counts[empty[0]]} ({len(empty)} classes in all); "
            "fit on more images"
        )
