"""Accuracies behind a purifier that is told another prompt for every class."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from experiments.purified import DRAWS, Cells
from lightning_adv.asking import is_right
from lightning_adv.attacks import Attack
from lightning_adv.purifiers import LanguageGuidedDiffusion, PurifiedClassifier, ThreatModel

__all__ = ["ByClass", "Purifiers"]

Purifiers = Sequence[LanguageGuidedDiffusion]
"""One for every class."""


class ByClass(Cells):
    """Figures of images in batches of one class, so that an oracle can name it."""

    def __init__(self, folder: Path, model: nn.Module, data: tuple[Tensor, Tensor, Tensor], attack_draws: int) -> None:
        super().__init__(folder, model, data, (len(data[0]),) * 2, attack_draws)
        label = data[1]
        self.data = [tuple(part[label == k] for part in data) for k in label.unique().tolist()]

    def behind(
        self,
        kind: str,
        purifiers: Purifiers,
        attack: str,
        how: Attack | None,
        threat: ThreatModel,
    ) -> list[float]:
        """Accuracy in each draw behind a purifier for every class."""
        wholes = [PurifiedClassifier(purifier, self.model) for purifier in purifiers]

        def right() -> list[Tensor]:
            attacked = self.blind(attack, how)
            if threat is not ThreatModel.BLIND:
                pairs = zip(wholes, self.data, strict=True)
                attacked = [whole.attacked(how, threat, *part, draws=self.attack_draws) for whole, part in pairs]
            triples = zip(wholes, attacked, self.data, strict=True)
            return [is_right(whole.judge(image, index, DRAWS), y) for whole, image, (_, y, index) in triples]

        return self.accuracies(f"{kind} {attack} {threat}", right)
