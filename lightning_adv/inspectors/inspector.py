"""The base of all inspectors: what holds for every search for hidden triggers in a trained model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_adv.asking import Classifier
from lightning_adv.attacks.description import settings_of
from lightning_adv.attacks.randomised import VERDICT_DRAWS
from lightning_adv.attacks.trace import leaves_no_trace
from lightning_adv.errors import InputError
from lightning_adv.inspectors.outliers import Outliers, find_outliers, why_no_verdict
from lightning_adv.inspectors.report import ClassTrigger, InspectionReport, Search
from lightning_adv.inspectors.suspect import CleanImages, Suspect, check_classes

__all__ = ["Images", "Inspector"]

Images = Tensor | Iterable[Tensor | Sequence[Tensor]]
"""Clean images [N, C, H, W], or batches of them: tensors or (image, label, ...)."""


RANDOMISED = (
    f"the model answers differently to the same images: success rates are of the mean prediction over {VERDICT_DRAWS} "
    "draws of their own, but the search follows single draws, by whose luck a trigger may be too small"
)


class Inspector(ABC):
    """Looks for a backdoor in a classifier: a trigger for each class, then the outlier among their norms.

    A subclass is its hyperparameters and :meth:`reconstruct`. What holds for every inspector: any module from images in
    [0, 1] to logits will do; it is in eval mode, its weights are frozen, it computes in float32, and it is left, like
    the global RNG, as it was, also after an exception; the result is a function of model, images and seed.

    Args:
        threshold: of the anomaly index, for the paper's verdict.
        alpha: level of the verdict that is corrected for the number of classes.
        seed: of all random numbers.
        allow_missing_classes: inspect with labelled images also where some class has none.

    Raises:
        InputError: numbers that cannot be meant.

    Example:
        >>> class WholeImage(Inspector):
        ...     def reconstruct(self, suspect, images, classes):
        ...         mask, white = torch.ones(1, 2, 2), torch.ones_like(images.image[0])
        ...         return [ClassTrigger(k, mask, white, float(k), 1.0, "converged", 1) for k in classes]
        >>> WholeImage()(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(8, 1, 2, 2)).norms
        [0.0, 1.0, 2.0]
    """

    joint: ClassVar[bool] = False
    """Whether the classes are searched for together, so that they cannot be shared out to processes."""

    double_mad: ClassVar[bool] = False
    """Whether the outlier rule is the double MAD."""

    log_norms: bool = False
    """Whether the outlier rule is asked of the logarithms of the norms."""

    measure: ClassVar[str] = "norm"
    """What the classes are judged by: the norm of their trigger, unless a subclass says otherwise."""

    large: ClassVar[bool] = False
    """Whether it is a large value that is suspicious; what is found is then no mask and pattern of a trigger."""

    def __init__(
        self, threshold: float = 2.0, alpha: float = 0.05, seed: int = 0, allow_missing_classes: bool = False
    ) -> None:
        if threshold <= 0 or not 0 < alpha < 1:
            raise InputError(f"threshold must be above 0 and alpha in (0, 1), got {threshold} and {alpha}")
        self.threshold, self.alpha, self.seed = threshold, alpha, seed
        self.allow_missing_classes = allow_missing_classes
        self.over: Callable[[float], float] = _as_planned
        """How much of a search is over, by the share of its steps that is done: 1 ends it, also before its last."""

    @abstractmethod
    def reconstruct(self, suspect: Suspect, images: CleanImages, classes: Sequence[int]) -> list[ClassTrigger]:
        """The paper's algorithm: a trigger for each of these classes."""

    def __call__(self, model: Classifier, images: Images) -> InspectionReport:
        """Inspect all classes.

        Args:
            model: images [N, C, H, W] in [0, 1] to logits [N, K].
            images: clean images, float in [0, 1] (uint8 is divided by 255), of one size.

        Raises:
            InputError: no images, values outside [0, 1], labels that the model does not know, a class without a clean
                image (see ``allow_missing_classes``).
        """
        return self.judge([self.search(model, images)])

    def check(self, label: Tensor | None, classes: int) -> list[str]:
        """Warnings about a model of so many classes and the labels [N] of clean images; raises as calling does."""
        missing = [] if label is None else check_classes(label, classes, self.allow_missing_classes)
        return [*missing, *why_no_verdict(classes, self.double_mad)]

    def search(self, model: Classifier, images: Images, rank: int = 0, ranks: int = 1) -> Search:
        """The part of one of several processes: classes ``rank``, ``rank + ranks``, ...; arguments as in calling.

        Every process gets the same images. A joint inspector works on rank 0 only.
        """
        with leaves_no_trace(model):
            clean = CleanImages.of(images, model)
            suspect = Suspect(model)
            classes = suspect.classes(clean.image[:1])
            warnings = [*self.check(clean.label, classes), *([RANDOMISED] if suspect.randomised else [])]
            mine = range(classes if rank == 0 else 0) if self.joint else range(rank, classes, ranks)
            # The trainer's autocast stops here: triggers are searched for in float32.
            with torch.autocast(clean.image.device.type, enabled=False):
                triggers = self.reconstruct(suspect, clean, mine) if len(mine) else []
        return Search(tuple(triggers), suspect.launches, suspect.image_passes, tuple(warnings), suspect.searched_low)

    def rule(self, values: Sequence[float]) -> Outliers:
        """Which of the values [K] of the classes are outliers."""
        return find_outliers(
            values, double=self.double_mad, logarithmic=self.log_norms, threshold=self.threshold, alpha=self.alpha
        )

    def judge(self, parts: Sequence[Search]) -> InspectionReport:
        """Put the parts of all processes together and find the outliers."""
        triggers = sorted((trigger for part in parts for trigger in part.triggers), key=lambda each: each.label)
        outliers = self.rule([trigger.norm for trigger in triggers])
        warnings = list(dict.fromkeys(text for part in parts for text in part.warnings))
        failed = [trigger.label for trigger in triggers if trigger.status == "never succeeded"]
        if failed:
            warnings.append(
                f"no trigger was found for {_classes(failed)}: counted as larger than every norm found, their last "
                "masks are not used"
            )
        exhausted = [trigger.label for trigger in triggers if trigger.status == "budget exhausted"]
        if exhausted:
            warnings.append(
                f"the search ended with its steps before it was done for {_classes(exhausted)}: their triggers may be "
                "larger than need be, and a backdoor among them missed; allow more steps"
            )
        return InspectionReport(
            inspector=repr(self),
            triggers=tuple(triggers),
            outliers=outliers,
            launches=sum(part.launches for part in parts),
            image_passes=sum(part.image_passes for part in parts),
            warnings=tuple(dict.fromkeys([*warnings, *outliers.warnings])),
            measure=self.measure,
            large=self.large,
            bf16=any(part.bf16 for part in parts),
        )

    def __repr__(self) -> str:
        """Class and hyperparameters in one line."""
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in settings_of(self).items())})"


def _as_planned(done: float) -> float:
    return done


def _classes(labels: Sequence[int], shown: int = 10) -> str:
    listed = ", ".join(map(str, labels[:shown])) + (", ..." if len(labels) > shown else "")
    return f"class{'es' if len(labels) > 1 else ''} {listed}"
