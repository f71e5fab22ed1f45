"""What one attack leaves of a classifier's accuracy, and where it looked."""

from dataclasses import dataclass, field

from lightning_adv.attacks import Stage
from lightning_adv.results.shares import wilson_interval

__all__ = ["AttackRow", "Reach"]

OPTIONAL = ("zero_gradient_share", "restart_gain", "median_distance")


@dataclass(frozen=True)
class Reach:
    """Where an attack looks for adversarial images.

    Args:
        norm, eps: of its ball, None without one.
        aim: the rule by which it chooses a class to reach, None where it flees from the label.
        draws: of a randomised model that every step averages over.
    """

    norm: str | None
    eps: float | None
    aim: str | None = None
    draws: int = 1

    def holds(self, other: "Reach") -> bool:
        """Whether ``other`` looks nowhere else, by no more draws."""
        alike = (self.norm, self.aim) == (other.norm, other.aim) and self.draws >= other.draws
        return alike and self.eps is not None and other.eps is not None and self.eps >= other.eps - 1e-9


@dataclass(frozen=True)
class AttackRow:
    """How a model stands against one attack.

    Args:
        name: key of the attack in metrics, e.g. ``"pgd20"``.
        description: every setting in one line, e.g. ``"PGD(eps=8/255, step_size=2/255, steps=20, ...)"``.
        norm: ``"Linf"``, ``"L2"`` or ``"L1"``.
        eps: radius in pixel units of [0, 1]; None for an attack without one.
        samples: images attacked.
        robust_correct: images still classified correctly under the attack.
        success_rate: share of the initially correct images that the attack turned; None if none was correct.
        mean_linf, mean_l2, mean_l1: mean size of the successful perturbations; None if none succeeded.
        clean_confidence, adversarial_confidence: mean probability of the predicted class before and after; None where
            no image has one.
        zero_gradient_share: share of images whose first input gradient was zero; None if not measured.
        restart_gain: robust accuracy lost to restarts after the first; None without restarts.
        per_class_correct: ``robust_correct`` by class [K].
        minimal_norm: whether the attack has no budget and looks for the nearest misclassified image; then its accuracy
            says little, its distances all.
        median_distance: of a minimal-norm attack, over the initially correct images; None if it is not finite.
        stages: of an ensemble, what each of its attacks did.
        follows: where it, or each of an ensemble, follows the gradient to every place.
    """

    name: str
    description: str
    norm: str
    eps: float | None
    samples: int
    robust_correct: int
    success_rate: float | None
    mean_linf: float | None
    mean_l2: float | None
    mean_l1: float | None
    clean_confidence: float | None
    adversarial_confidence: float | None
    per_class_correct: list[int]
    zero_gradient_share: float | None = None
    restart_gain: float | None = None
    minimal_norm: bool = False
    median_distance: float | None = None
    stages: list[Stage] = field(default_factory=list)
    follows: list[Reach] = field(default_factory=list)

    @property
    def robust_accuracy(self) -> float:
        """Share of the images classified correctly under the attack."""
        return self.robust_correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the robust accuracy (Wilson)."""
        return wilson_interval(self.robust_correct, self.samples)

    def scalars(self) -> dict[str, float]:
        """Measured scalars, by name without the attack's; an attack that goes as far as it needs has no accuracy."""
        names = ("success_rate", "mean_linf", "mean_l2", "mean_l1", "clean_confidence", "adversarial_confidence")
        values = {name: vars(self)[name] for name in (*names, *OPTIONAL)}
        left = {} if self.minimal_norm else {"robust_accuracy": self.robust_accuracy}
        return left | {k: v for k, v in values.items() if v is not None}
