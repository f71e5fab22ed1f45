"""Confidence by kernel densities of reduced features (Billovits, Eric, Agarwala, Hitting Depth, 2016).

z = E (h(x) - mean),  confidence(x) = n_c p_c(z) / sum_k n_k p_k(z),  score(x) = 1 - confidence(x)

h is the last hidden layer, c the class that the model predicts, p_k a Gaussian kernel density over the clean images of
class k, n_k their number. E is the encoder of a linear auto-encoder, whose optimum has a closed form: the leading
principal components.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_adv.attacks.oracle import LabelOracle
from lightning_adv.detectors.detector import Detector, LabelledImages
from lightning_adv.detectors.distances import class_log_densities
from lightning_adv.detectors.features import activations, as_module, by_class, of_predicted
from lightning_adv.detectors.kernel_density import cross_validated_bandwidth
from lightning_adv.errors import InputError

__all__ = ["KDEConfidence"]


class KDEConfidence(Detector):
    """Images whose features lie where the clean images of other classes are as frequent as those of the predicted one.

    After ``fit``, ``components`` is the width of the code and ``variance`` the share of the variance that it keeps.

    Args:
        layer: whose output is the feature; default the last hidden layer.
        variance_kept: the code is the shortest that keeps this share of the variance; .68 to .72 in the paper.
        bandwidth: of the kernels, in units of the code; default the one of highest held-out likelihood.

    Raises:
        InputError: a share outside (0, 1], a bandwidth that is not positive; in ``fit`` fewer than three images, or an
            unknown layer.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> clean = [(torch.rand(40, 1, 2, 2), torch.arange(40) % 2)]
        >>> score = KDEConfidence().fit(model, clean).score(model, torch.rand(3, 1, 2, 2))
        >>> bool(((score >= 0) & (score <= 1)).all())
        True
    """

    def __init__(self, layer: str | None = None, variance_kept: float = 0.7, bandwidth: float | None = None) -> None:
        if not 0 < variance_kept <= 1:
            raise InputError(f"variance_kept must lie in (0, 1], got {variance_kept}")
        if bandwidth is not None and bandwidth <= 0:
            raise InputError(f"bandwidth must be positive, got {bandwidth}")
        self.layer, self.variance_kept, self.bandwidth = layer, variance_kept, bandwidth
        self.chosen_bandwidth = bandwidth
        self.reference: Tensor | None = None

    def learn(self, model: LabelOracle, batches: Iterable[LabelledImages]) -> None:
        """Fit the code and keep the codes of clean images, by class."""
        feature, label, classes = by_class(as_module(model, "KDEConfidence"), batches, self.layer)
        self.check_labels(label, classes)
        self.centre = feature.mean(dim=0)
        values, vectors = torch.linalg.eigh((feature - self.centre).T.double().cov(correction=0))
        share = values.flip(0).clamp_min(0).cumsum(0) / values.clamp_min(0).sum().clamp_min(1e-300)
        self.components = min(int((share < self.variance_kept - 1e-9).sum()) + 1, len(share))
        self.variance = share[self.components - 1].item()
        self.encoder = vectors.flip(1)[:, : self.components].to(feature)
        self.reference = (feature - self.centre) @ self.encoder
        self.counts = torch.bincount(label, minlength=classes).tolist()
        self.chosen_bandwidth = self.bandwidth or cross_validated_bandwidth(self.reference, label)

    def check(self, model: LabelOracle, x: Tensor, index: Tensor) -> None:
        """Refuse a model without that layer."""
        activations(as_module(model, "KDEConfidence"), x, [self.layer])

    def check_labels(self, label: Tensor, classes: int) -> None:
        """Refuse too few images."""
        if len(label) < 3:
            raise InputError(f"KDEConfidence needs at least three clean images, got {len(label)}")

    def measure(self, model: LabelOracle, x: Tensor, index: Tensor) -> Tensor:
        """One minus the confidence in the predicted class [N, 1]; 1 for a class without clean images."""
        if self.reference is None:
            raise InputError("KDEConfidence has no clean images yet: call fit(model, loader) first")
        (feature,), logits = activations(as_module(model, "KDEConfidence"), x, [self.layer])
        code = (feature - self.centre) @ self.encoder
        width = code.new_tensor([self.chosen_bandwidth])
        density = class_log_densities(code, self.reference, self.counts, width)[0]  # [N, K]
        confidence = (density + code.new_tensor(self.counts).log()).softmax(dim=1)
        return 1 - of_predicted(confidence, logits)
