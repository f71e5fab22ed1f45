"""What an inspection of a model leaves: a trigger for each class, and the verdict on their norms."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_adv.inspectors.outliers import Outliers

__all__ = ["ClassTrigger", "InspectionReport", "Search", "Status"]

Status = Literal["converged", "budget exhausted", "never succeeded", "diverged"]
"""How the search for a class's trigger ended.

``converged``: the method's own stopping rule, or, where it has none, a trigger that hardly became smaller towards the
end; ``budget exhausted``: a trigger was found, and might have become smaller with more steps;
``never succeeded``: no trigger reached the success threshold; ``diverged``: numbers that are none.
"""


@dataclass(frozen=True)
class ClassTrigger:
    """The trigger reconstructed for one class, on the CPU.

    Args:
        label: the class that it leads to.
        mask: [1, H, W] in [0, 1]; the last one tried where none succeeded.
        pattern: [C, H, W] in [0, 1]: a triggered image is (1 - mask) x + mask pattern.
        norm: L1 norm of the trigger in pixels, or what else the class is judged by; +inf if none succeeded, NaN if the
            search diverged.
        success_rate: share of all images that the trigger sends to the class, scored in float32.
        status: how the search ended.
        steps: steps taken.
        costs: (step, weight of the norm in the loss), an entry whenever it changed; the first is that of step 1.

    Example:
        >>> ClassTrigger(2, torch.ones(1, 2, 2), torch.zeros(1, 2, 2), 4.0, 1.0, "converged", 10).found
        True
    """

    label: int
    mask: Tensor
    pattern: Tensor
    norm: float
    success_rate: float
    status: Status
    steps: int
    costs: tuple[tuple[int, float], ...] = ()

    @property
    def found(self) -> bool:
        """Whether a trigger reached the success threshold."""
        return self.status in ("converged", "budget exhausted")


@dataclass(frozen=True)
class Search:
    """What one process found: triggers of its classes, and what they cost.

    Args:
        triggers: one a class.
        launches: forwards of the model, whatever their batch.
        image_passes: images in those forwards.
        warnings: what a reader must know.
        bf16: whether the search was in bfloat16.

    Example:
        >>> Search(()).launches
        0
    """

    triggers: tuple[ClassTrigger, ...]
    launches: int = 0
    image_passes: int = 0
    warnings: tuple[str, ...] = ()
    bf16: bool = False


@dataclass(frozen=True)
class InspectionReport:
    """Reconstructed triggers of K classes and what their norms say of the model.

    ``flagged`` is the paper's verdict (index above 2), ``significant`` the one corrected for the number of classes.
    Both are None where the norms allow none (two classes, say): no verdict is not the same as nothing flagged.

    Args:
        inspector: its class and settings in one line.
        triggers: one a class, in ascending order of the class.
        outliers: the verdict, by position in ``triggers``.
        launches, image_passes: cost over all processes; see :class:`Search`.
        warnings: what a reader must know.
        measure: name of what the classes were judged by.
        large: large values of it are suspicious, and what was found are no masks and patterns of triggers.
        bf16: whether the search was in bfloat16.

    Example:
        >>> from lightning_adv.inspectors import NeuralCleanse
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> report = NeuralCleanse(steps=2)(model, torch.rand(8, 1, 2, 2))
        >>> report.labels, report.masks.shape
        ([0, 1, 2], torch.Size([3, 1, 2, 2]))
    """

    inspector: str
    triggers: tuple[ClassTrigger, ...]
    outliers: Outliers
    launches: int = 0
    image_passes: int = 0
    warnings: tuple[str, ...] = field(default=())
    measure: str = "norm"
    large: bool = False
    bf16: bool = False

    @property
    def labels(self) -> list[int]:
        """The classes inspected [K]."""
        return [trigger.label for trigger in self.triggers]

    @property
    def norms(self) -> list[float]:
        """L1 norms [K], or what ``measure`` says; +inf where no trigger succeeded, NaN where the search diverged."""
        return [trigger.norm for trigger in self.triggers]

    @property
    def order(self) -> list[int]:
        """Positions in ``triggers``, the most suspicious first, those without a trigger last."""
        sign = -1 if self.large else 1
        return sorted(range(len(self.triggers)), key=lambda i: (not self.triggers[i].found, sign * self.norms[i]))

    @property
    def masks(self) -> Tensor:
        """[K, 1, H, W]."""
        return torch.stack([trigger.mask for trigger in self.triggers])

    @property
    def patterns(self) -> Tensor:
        """[K, C, H, W]."""
        return torch.stack([trigger.pattern for trigger in self.triggers])

    @property
    def anomaly_index(self) -> dict[int, float]:
        """Class to anomaly index; NaN without a verdict."""
        return dict(zip(self.labels, self.outliers.index, strict=True))

    @property
    def flagged(self) -> list[int] | None:
        """Classes that the paper's rule flags; None without a verdict."""
        return self._classes(self.outliers.flagged)

    @property
    def significant(self) -> list[int] | None:
        """Classes flagged at the corrected level; None without a verdict."""
        return self._classes(self.outliers.significant)

    @property
    def p_value(self) -> float:
        """Corrected for the number of classes; NaN without a verdict."""
        return self.outliers.p_value

    @property
    def exhausted(self) -> list[int]:
        """Classes whose search ended with its steps: their norms may be larger than need be."""
        return [trigger.label for trigger in self.triggers if trigger.status == "budget exhausted"]

    def _classes(self, positions: tuple[int, ...] | None) -> list[int] | None:
        return None if positions is None else [self.labels[position] for position in positions]
