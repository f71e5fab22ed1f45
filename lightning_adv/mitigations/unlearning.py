"""Unlearning by reconstructed triggers (Neural Cleanse, Wang et al., 2019, section VI-C).

    minimise  mean_{(x, y) clean}  CE( f(x~), y ),    x~ = (1 - m) x + m p  for a share of the images, else x

with the mask m and the pattern p that Neural Cleanse reconstructed: the model is told what the trigger is worth.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.asking import logits_of
from lightning_adv.backdoors import load_triggers
from lightning_adv.errors import InputError
from lightning_adv.inspectors import Inspector, NeuralCleanse
from lightning_adv.inspectors.suspect import CleanImages
from lightning_adv.mitigations.mitigation import Mitigation, Repair

__all__ = ["NeuralCleanseUnlearning"]

Found = tuple[dict[int, tuple[Tensor, Tensor]], list[int]]
"""Mask and pattern of every class that has them, and the classes that were flagged."""


class NeuralCleanseUnlearning(Mitigation):
    """Fine-tunes on clean images, a share of which carries the reconstructed trigger with its true label.

    Args:
        inspector: reconstructs the triggers on the model as it comes; default ``NeuralCleanse`` as its authors run it.
        triggers: file of triggers that an inspection has written, instead of an inspection.
        labels: classes whose triggers are unlearnt; default those that the inspector flags, and all if it flags none
            (an inspection that is evaded names no class). An image carries the trigger of one of them, by chance.
        share: of the images that carry a trigger.
        epochs, batch_size, held_out, seed: see :class:`Mitigation`.
        lr: of fine-tuning; None: it is chosen from ``rates``, by the triggers of one inspection.

    Raises:
        InputError: numbers that cannot be meant; in a call, no trigger for one of ``labels``, or none found at all, or
            triggers of another shape than the images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> images = [(torch.rand(20, 1, 4, 4), torch.arange(20) % 3)]
        >>> inspector = NeuralCleanse(steps=40, images_per_step=32)
        >>> NeuralCleanseUnlearning(inspector, labels=[1], epochs=1)(model, images).repair.unlearnt
        (1,)
    """

    rates = (0.02, 0.01, 0.003, 0.001)

    def __init__(
        self,
        inspector: Inspector | None = None,
        triggers: str | None = None,
        labels: list[int] | None = None,
        share: float = 0.2,
        epochs: int = 10,
        lr: float | None = None,
        batch_size: int = 32,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(epochs, lr, batch_size, held_out, seed)
        if not 0 < share <= 1:
            raise InputError(f"share must lie in (0, 1], got {share}")
        if inspector is not None and triggers is not None:
            raise InputError("NeuralCleanseUnlearning takes an inspector or a file of triggers, not both")
        if inspector is not None and inspector.large:
            raise InputError(
                f"{type(inspector).__name__} finds no triggers to unlearn: take NeuralCleanse or DeepInspect"
            )
        # A class of few images may be held out altogether; what is missing has been told before the split.
        own = NeuralCleanse(allow_missing_classes=True) if triggers is None else None
        self.inspector = own if inspector is None else inspector
        self.triggers, self.labels, self.share = triggers, labels, share
        self.found: Found | None = None

    def prepared(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> "NeuralCleanseUnlearning":
        """With the triggers of the model as it came."""
        other = copy.copy(self)
        other.found = self._from(model, images)
        return other

    def repair(self, model: nn.Module, images: CleanImages, held_out: CleanImages) -> Repair:
        """Reconstruct the triggers, then fine-tune."""
        known, flagged = self.found or self._from(model, images)
        wanted = self.labels or flagged or list(known)
        missing = [label for label in wanted if label not in known]
        if missing or not wanted:
            of_class = f" of class {', '.join(map(str, missing))}" if missing else ""
            raise InputError(f"no trigger{of_class} to unlearn: it has triggers of {sorted(known) or 'no class'}")
        masks, patterns = (torch.stack([known[label][part] for label in wanted]).to(images.image) for part in (0, 1))
        if patterns.shape[1:] != images.image.shape[1:]:
            raise InputError(
                f"the triggers of {self.triggers} are made for images of shape {tuple(patterns.shape[1:])}, and these "
                f"are {tuple(images.image.shape[1:])}"
            )
        generator = torch.Generator().manual_seed(self.seed)

        def dress(x: Tensor) -> Tensor:
            which = torch.randint(len(wanted), (len(x),), generator=generator).to(x.device)
            bare = torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device) >= self.share
            return torch.where(bare, x, x.lerp(patterns[which], masks[which]))

        warnings = self.fine_tune(model, images, lambda x, y: F.cross_entropy(logits_of(model, dress(x)), y))
        evaded = () if self.labels or flagged else ("no class was flagged: the triggers of all classes were unlearnt",)
        return Repair(unlearnt=tuple(wanted), warnings=(*evaded, *warnings))

    def _from(self, model: nn.Module, images: CleanImages) -> Found:
        return self._from_file() if self.triggers else self._by_inspection(model, images)

    def _by_inspection(self, model: nn.Module, images: CleanImages) -> Found:
        report = self.inspector(model, [(images.image, images.label)])
        known = {each.label: (each.mask, each.pattern) for each in report.triggers if each.found}
        return known, [label for label in report.flagged or () if label in known]

    def _from_file(self) -> Found:
        saved = load_triggers(self.triggers)
        known = dict(zip(saved.labels.tolist(), zip(saved.masks, saved.patterns, strict=True), strict=True))
        flagged = [int(label) for label in saved.metadata.get("flagged", "").split()]
        return known, [label for label in flagged if label in known]
