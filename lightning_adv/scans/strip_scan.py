"""STRIP as a filter of training images (Gao et al., A Defence Against Trojan Attacks on Deep Neural Networks, 2019).

score(x) = t - mean_n H( softmax f( clamp(x + o_n) ) ),   t the mean entropy that few clean images stay below

An image whose prediction survives clean images laid over it carries a trigger.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from lightning_adv.detectors import STRIP, LabelledImages
from lightning_adv.errors import InputError
from lightning_adv.scans.scan import ClassFinding, Scan

__all__ = ["StripScan"]


class StripScan(Scan[STRIP]):
    """Suspects the images whose prediction survives other images laid over them (Gao et al., 2019).

    Needs clean images: one half is laid over, the other sets the threshold. A class is flagged if it has more suspects
    than the rate of false alarms explains, by a binomial test corrected for the number of classes. Every image takes as
    many forwards as there are overlays.

    Args:
        overlays: clean images laid over each image.
        false_rejection_rate: share of the clean images above the threshold, in (0, 1).
        alpha: level of the verdicts on classes, together.
        seed: of the choice of overlays.

    Raises:
        InputError: numbers out of range; no clean images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> images, label = torch.rand(60, 1, 2, 2), torch.arange(60) % 3
        >>> report = StripScan(overlays=8)(model, [(images[:20], label[:20])], [(images[20:], label[20:])])
        >>> len(report.score), report.statistic
        (20, 'share of suspects')
    """

    statistic = "share of suspects"
    needs_clean = True
    in_flagged_classes = False

    def __init__(
        self, overlays: int = 64, false_rejection_rate: float = 0.01, alpha: float = 0.05, seed: int = 0
    ) -> None:
        if not 0 < alpha < 1 or not 0 < false_rejection_rate < 1:
            raise InputError(
                f"StripScan: false_rejection_rate and alpha must lie in (0, 1), got {false_rejection_rate} and {alpha}"
            )
        self.overlays, self.false_rejection_rate, self.alpha, self.seed = overlays, false_rejection_rate, alpha, seed
        self._detector()

    def learn(self, model: nn.Module, clean: Iterable[LabelledImages]) -> STRIP:
        """The detector, with overlays and a threshold."""
        detector = self._detector()
        detector.learn(model, clean)
        return detector

    def measure(self, model: nn.Module, batch: LabelledImages, known: STRIP) -> Tensor:
        """How far the score of each image [N, 1] lies above the threshold."""
        return known.measure(model, batch.image, batch.index) - known.known_threshold()

    def split(self, measures: Tensor) -> ClassFinding:
        """The images above the threshold."""
        suspect = measures[:, 0] > 0
        return ClassFinding(measures[:, 0], suspect, float(suspect.double().mean()))

    def verdicts(self, findings: Sequence[ClassFinding]) -> list[bool]:
        """Whether chance explains so many suspects."""
        from scipy.stats import binomtest  # takes a second to import

        return [
            binomtest(int(each.suspect.sum()), len(each.suspect), self.false_rejection_rate, "greater").pvalue
            < self.alpha / len(findings)
            for each in findings
        ]

    def _detector(self) -> STRIP:
        return STRIP(self.overlays, self.false_rejection_rate, seed=self.seed)
