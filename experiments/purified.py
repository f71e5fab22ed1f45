"""Accuracies behind purifiers, by what the attacker knows, measured once and kept; and a strip of what is seen."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments.kept import Kept
from experiments.networks import all_predicted, attacked
from lightning_adv.asking import is_right, predicted
from lightning_adv.attacks import Attack
from lightning_adv.purifiers import VQVAE, PurifiedClassifier, Purifier, ThreatModel
from lightning_adv.results.strips import Strip, StripRow, image_strip

__all__ = ["BATCH", "DRAWS", "Cells", "mean", "strip"]

DRAWS, BATCH = 5, 50
"""Draws of a purifier that judge an image, and images of a batch."""

CROWD = 300
"""Images that are attacked blindly at a time: a small classifier alone is quicker with many."""


class Cells:
    """Accuracies, measured once and kept.

    Args:
        folder: of the files.
        model: the classifier.
        data: images, labels and their numbers.
        informed: images that attacks which know a purifier are made on, and those which average over its draws or go
            through a network.
        attack_draws: of a randomised purifier that every gradient averages over.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        data: tuple[Tensor, Tensor, Tensor],
        informed: Sequence[int],
        attack_draws: int,
    ) -> None:
        self.kept, self.model, self.attack_draws, self.informed = Kept(folder), model, attack_draws, informed
        self.data = [tuple(part[i : i + BATCH] for part in data) for i in range(0, len(data[0]), BATCH)]
        self._blind: dict[str, list[Tensor]] = {}

    def undefended(self, attack: str, how: Attack | None) -> list[float]:
        """Accuracy of the classifier alone."""

        def right() -> list[Tensor]:
            pairs = zip(self.blind(attack, how), self.data, strict=True)
            return [(all_predicted(self.model, made) == y)[None] for made, (_, y, _) in pairs]

        return self.accuracies(f"none {attack}", right)

    def purified(
        self,
        label: str,
        purifier: Purifier,
        attack: str,
        how: Attack | None,
        threat: ThreatModel,
        most: int | None = None,
    ) -> list[float]:
        """Accuracy behind a purifier in each draw, on at most so many images."""
        whole = PurifiedClassifier(purifier, self.model)
        averages = purifier.randomised and threat in (ThreatModel.BPDA_EOT, ThreatModel.ADAPTIVE)
        costly = averages or isinstance(purifier, VQVAE)
        data = self.data if threat is ThreatModel.BLIND else self.data[: self.informed[costly] // BATCH]
        data = data if most is None else data[: max(1, most // BATCH)]

        def right() -> list[Tensor]:
            if threat is ThreatModel.BLIND:
                made = self.blind(attack, how)
            else:
                made = [whole.attacked(how, threat, *part, draws=self.attack_draws) for part in data]
            pairs = zip(made, data, strict=True)
            return [is_right(whole.judge(image, index, DRAWS), y) for image, (_, y, index) in pairs]

        fewer = f" {BATCH * len(data)}" if len(data) < len(self.data) else ""
        return self.accuracies(f"{label} {attack} {threat}{fewer}", right)

    def confusion(self, label: str, purifier: Purifier, attack: str, how: Attack | None) -> list[list[int]]:
        """Images of each label by what is said of them [K, K], attacked blindly, in the first draw of a purifier."""
        whole = PurifiedClassifier(purifier, self.model)

        def counts() -> list[list[int]]:
            pairs = zip(self.blind(attack, how), self.data, strict=True)
            logits = torch.cat([whole.judge(image, index)[0] for image, (_, _, index) in pairs])
            pairs_of_classes = torch.cat([y for _, y, _ in self.data]) * logits.shape[1] + predicted(logits)
            size = logits.shape[1]
            return torch.bincount(pairs_of_classes, minlength=size**2).view(size, size).tolist()

        return self.kept.figures(f"confusion {label} {attack}", counts)

    def blind(self, attack: str, how: Attack | None) -> list[Tensor]:
        """The images, attacked on the classifier alone; made once and kept."""
        if attack not in self._blind:
            made = self.kept.tensors(attack, lambda: self._made(how))
            self._blind[attack] = list(made.split([len(y) for _, y, _ in self.data]))
        return self._blind[attack]

    def accuracies(self, name: str, right: Callable[[], list[Tensor]]) -> list[float]:
        """Share of each draw that is right, from tensors [draws, N] bool; measured once."""

        def shares() -> dict[str, list[float]]:
            return {"accuracies": torch.cat(right(), dim=1).double().mean(dim=1).tolist()}

        return self.kept.figures(name, shares)["accuracies"]

    def _made(self, how: Attack | None) -> Tensor:
        x, y, index = (torch.cat(parts) for parts in zip(*self.data, strict=True))
        return x if how is None else attacked(how, self.model, x, y, CROWD, index)


def strip(rows: Mapping[str, Tensor], labels: Tensor, model: nn.Module, title: str) -> Figure:
    """Rows of images by name, with what the classifier says of each."""
    drawn = [StripRow(name, images, all_predicted(model, images)) for name, images in rows.items()]
    names = [str(k) for k in range(int(labels.max()) + 1)]
    return image_strip(Strip("strip", title, labels, drawn), names)


def mean(draws: Sequence[float]) -> float:
    """Of the accuracies of the draws."""
    return sum(draws) / len(draws)
