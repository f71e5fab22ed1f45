"""What the nMutant experiment measures once and keeps, and the detectors that it fits."""

import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.kept import Kept
from experiments.nmutant.samples import KINDS, Samples
from lightning_adv.data import ImageDataModule, float_images
from lightning_adv.detectors import (
    Detector,
    KernelDensity,
    LabelChangeRate,
    LocalIntrinsicDimensionality,
    ModelUncertainty,
)

__all__ = ["Cells", "batches", "fitted", "split", "white_box"]


class Cells:
    """Scores and verdicts of each detector on each kind of sample, measured once and kept.

    Args:
        folder: of the files.
        samples: by kind.
    """

    def __init__(self, folder: Path, samples: dict[str, Samples]) -> None:
        self.kept, self.samples = Kept(folder), samples

    def scores(
        self, name: str, detector: Detector, model: nn.Module, prepare: Callable[[], None] = lambda: None
    ) -> dict[str, Tensor]:
        """Kind to measures [N, F] float64, with the samples' numbers and the seconds an image took."""

        def measured(each: Samples) -> dict:
            prepare()
            began = time.perf_counter()
            parts = [detector.measures(model, x, index=i) for x, i in split(each)]
            seconds = (time.perf_counter() - began) / len(each.index)
            return {"values": torch.cat(parts).tolist(), "seconds": seconds}

        return {
            kind: torch.cat([self.samples[kind].index[:, None].double(), torch.tensor(cell["values"]).double()], dim=1)
            for kind, cell in self._of_each_kind(name, repr(detector), measured).items()
        }

    def calibrated(
        self, name: str, detector: LabelChangeRate, model: nn.Module, clean: Callable[[], Iterable]
    ) -> tuple[float, float]:
        """kappa_1 and mu of a detector that has seen clean images."""

        def measured() -> list[float | None]:
            detector.calibrate(model, clean())
            return [detector.kappa_1, detector.mu]

        kappa_1, mu = self.kept.figures(name, measured, repr(detector))
        return kappa_1, mu

    def verdicts(self, name: str, detector: LabelChangeRate, model: nn.Module) -> dict[str, dict]:
        """Kind to counts and mutations of the sequential test."""

        def judged(each: Samples) -> dict:
            parts = [detector.decide(model, x, index=i) for x, i in split(each)]
            return {
                "kappa_1": detector.kappa_1,
                "mu": detector.mu,
                "samples": len(each.index),
                "suspicious": sum(int(part.suspicious.sum()) for part in parts),
                "undecided": sum(int(part.undecided.sum()) for part in parts),
                "mutations": sum(int(part.mutations.sum()) for part in parts) / len(each.index),
            }

        return self._of_each_kind(name, repr(detector), judged)

    def _of_each_kind(self, name: str, setting: str, make: Callable[[Samples], dict]) -> dict[str, dict]:
        return {
            kind: self.kept.figures(f"{name} {kind}", partial(make, self.samples[kind]), setting)
            for kind in ("normal", *KINDS)
        }


def white_box() -> dict[str, Detector]:
    """The paper's baselines."""
    return {
        "KD": KernelDensity(),
        "MU": ModelUncertainty(),
        "LID": LocalIntrinsicDimensionality(),
    }


def fitted(detector: Detector, model: nn.Module, images: ImageDataModule, count: int) -> Callable[[], None]:
    """Fits the detector when it is first needed: a resumed run that has all its cells does not."""
    done: list[bool] = []

    def fit() -> None:
        if not done:
            detector.fit(model, batches(images, "train", count))
            done.append(True)

    return fit


def batches(images: ImageDataModule, part: str, count: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """So many images of a split, from all over it, with labels and numbers."""
    data = images.datasets[part].for_evaluation()
    chosen = torch.linspace(0, len(data) - 1, min(count, len(data))).long()
    found = [data[each.tolist()] for each in chosen.split(500)]
    return [(float_images(batch.image), batch.label, batch.index) for batch in found]


def split(samples: Samples) -> Iterable[tuple[Tensor, Tensor]]:
    """Parts of fifty or some more."""
    size = math.ceil(len(samples.index) / max(1, len(samples.index) // 50))
    return zip(samples.image.split(size), samples.index.split(size), strict=True)
