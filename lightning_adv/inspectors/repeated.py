"""An inspector that searches several times, each time with other images and another start.

    norm_k = exp( mean_d log norm_kd )

One search is one draw: how small a trigger it finds depends on its images and on where it begins.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lightning_adv.errors import InputError, at_least_one
from lightning_adv.inspectors.inspector import Inspector
from lightning_adv.inspectors.report import ClassTrigger
from lightning_adv.inspectors.suspect import CleanImages, Suspect

__all__ = ["Repeated"]


class Repeated(Inspector):
    """Another inspector, several times: a class is judged by the geometric mean of its norms over the searches.

    Every search has its share of the images, every n-th one, and a seed of its own. Of a class the smallest trigger
    that was found is reported; one that any search failed to find has no norm.

    Args:
        inspector: that judges norms.
        searches: of it.

    Raises:
        InputError: an inspector that judges no norms; in a call, fewer images than searches.

    Example:
        >>> from lightning_adv.inspectors import NeuralCleanse
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> len(Repeated(NeuralCleanse(steps=2))(model, torch.rand(8, 1, 2, 2)).norms)
        3
    """

    def __init__(self, inspector: Inspector, searches: int = 3) -> None:
        super().__init__(inspector.threshold, inspector.alpha, inspector.seed, inspector.allow_missing_classes)
        at_least_one(searches=searches)
        if inspector.large:
            raise InputError(f"Repeated takes the mean of norms, and {type(inspector).__name__} judges none")
        self.inspector, self.searches = inspector, searches
        self.joint, self.double_mad, self.log_norms = inspector.joint, inspector.double_mad, True

    def reconstruct(self, suspect: Suspect, images: CleanImages, classes: Sequence[int]) -> list[ClassTrigger]:
        """Each class's smallest trigger, with the mean norm of all searches."""
        if len(images.image) < self.searches:
            raise InputError(f"{self.searches} searches need as many clean images, got {len(images.image)}")
        found = []
        for search in range(self.searches):
            inspector = copy.copy(self.inspector)
            inspector.seed += search
            inspector.over = lambda done, search=search: self.over((search + done) / self.searches)
            label = None if images.label is None else images.label[search :: self.searches]
            part = CleanImages(images.image[search :: self.searches], label)
            found.append(inspector.reconstruct(suspect, part, classes))
        return [_together(each) for each in zip(*found, strict=True)]


def _together(found: Sequence[ClassTrigger]) -> ClassTrigger:
    """One class's triggers as one: the smallest, with the mean of the norms' logarithms."""
    smallest = min(found, key=lambda each: (not each.found, each.norm))
    norm = float(np.exp(np.mean(np.log([max(each.norm, 1e-6) for each in found]))))
    worst = next((each.status for each in found if not each.found), smallest.status)
    return replace(smallest, norm=norm, status=worst, steps=sum(each.steps for each in found))
