"""A classifier that says of every answer whether it should be trusted."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.attacks.noise import content_index
from lightning_adv.detectors.detector import Detector, above
from lightning_adv.errors import InputError

__all__ = ["RuntimeMonitor"]


class RuntimeMonitor(nn.Module):
    """``monitor(x) -> logits, suspicious``: the classifier with a fitted and calibrated detector beside it.

    It stays in eval mode and takes the detector's tensors along in ``.to(device)``. Random numbers of the detector are
    keyed by the pixels of an image, so an image gets one verdict, whatever batch it comes in. It can be exported as one
    graph (``torch.export.export(monitor, (x,), strict=False)``); :class:`LabelChangeRate` then makes its fixed number
    of ``mutations``, for a graph cannot stop early.

    Args:
        classifier: images [N, C, H, W] in [0, 1] to logits [N, K].
        detector: with a threshold.
        on_suspicion: "flag" only says so, "reject" also makes the logits of a suspicious image NaN, so that nobody can
            take them for an answer.

    Raises:
        InputError: a detector without a threshold, another value of ``on_suspicion``.

    Example:
        >>> from lightning_adv.detectors import LabelChangeRate
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> monitor = RuntimeMonitor(model, LabelChangeRate(kappa_1=0.05, mutations=20))
        >>> logits, suspicious = monitor(torch.rand(2, 1, 4, 4))
        >>> logits.shape, suspicious.dtype
        (torch.Size([2, 3]), torch.bool)
    """

    def __init__(
        self, classifier: nn.Module, detector: Detector, on_suspicion: Literal["flag", "reject"] = "flag"
    ) -> None:
        super().__init__()
        if on_suspicion not in ("flag", "reject"):
            raise InputError(f"on_suspicion must be flag or reject, got {on_suspicion!r}")
        self.classifier, self.detector, self.on_suspicion = classifier, detector, on_suspicion
        self.threshold = detector.known_threshold()
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, K] and [N] bool, whether the image is suspicious."""
        with torch.no_grad():
            logits = logits_of(self.classifier, x)
            measures = self.detector.measure(self.classifier, x.float(), content_index(x))
            suspicious = above(self.detector.combine(measures), self.threshold)
            if self.on_suspicion == "reject":
                logits = torch.where(suspicious[:, None], torch.nan, logits)
        return logits, suspicious

    def train(self, mode: bool = True) -> "RuntimeMonitor":
        """Stays in eval mode: a monitor does not train."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RuntimeMonitor":
        self.detector.map_tensors(fn)
        return super()._apply(fn, recurse)
