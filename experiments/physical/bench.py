"""What each attack leaves of an image once it is photographed, measured once and kept."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments.kept import Kept
from experiments.networks import all_logits, attacked, images_of
from experiments.page import prose
from lightning_adv.asking import confident
from lightning_adv.attacks import BIM, EOT, FGSM, PGD, Attack, LeastLikely, PhysicalWorld
from lightning_adv.attacks.budget import as_text
from lightning_adv.data import ImageDataModule
from lightning_adv.metrics import Destruction, destruction, outcomes, similar_classes, top_k_errors
from lightning_adv.results.figures import adversarial_grid
from lightning_adv.results.result import Table
from lightning_adv.results.shares import percent_interval, wilson_interval

__all__ = ["ATTACKS", "STEPS", "Bench"]

EPS = {
    "MNIST": (0.1, 0.15, 0.2, 0.25, 0.3),
    "CIFAR-10": (2 / 255, 4 / 255, 8 / 255, 12 / 255, 16 / 255),
    "Photographs": (4 / 255, 8 / 255, 16 / 255),
}
KINDS = ("true", "refocused", "conatural", "benign", "robust", "wrong")
STEPS = 12
"""Of eps / 10, so that the iterative attacks can reach the edge of the ball (1.25 eps, as in the paper)."""

ATTACKS: dict[str, Callable[[float], Attack]] = {
    "FGSM": lambda eps: FGSM(eps),
    "BIM": lambda eps: BIM(eps, step_size=eps / 10, steps=STEPS),
    "least likely": lambda eps: LeastLikely(eps, step_size=eps / 10, steps=STEPS),
    "PGD over photographs": lambda eps: EOT(PGD(eps, step_size=eps / 10, steps=STEPS), samples=4),
}

ONE_VIEW = ("FGSM", "BIM", "least likely")
"""The attacks that do not know of photographs."""


class Bench:
    """A network, its test images, and what each attack leaves, measured once and kept.

    Args:
        name: of the data set.
        folder: of the figures.
        images: the data.
        model: the network.
        count: test images attacked.
        compared: validation images that say which classes are similar; default all.
        at_once: images that are attacked and photographed at once.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        images: ImageDataModule,
        model: nn.Module,
        count: int,
        compared: int | None = None,
        at_once: int = 250,
    ) -> None:
        self.at_once = at_once
        self.name, self.kept, self.world, self.model = name, Kept(folder), PhysicalWorld(), model
        self.eps, self.outcome_eps = EPS[name], EPS[name][::2]
        (self.x, self.y), self.index = images_of(images, "test", 0, count), images.datasets["test"].index[:count]
        image, label = images_of(images, "val", 0, compared)
        self.similar = similar_classes(all_logits(model, image), label, share=0.01)

    def destruction(self) -> Table:
        """Destruction rates by attack and eps, and the errors before and after the photograph."""
        count, rows = len(self.y), []
        for name in ATTACKS if self.name == "MNIST" else ONE_VIEW:  # EOT on CIFAR-10 costs ten minutes an eps
            for eps in self.eps if name in ONE_VIEW else self.outcome_eps:
                cell = self._cell(name, eps)
                found = Destruction(cell["fooled"], cell["destroyed"])
                interval = wilson_interval(found.destroyed, found.fooled) if found.fooled else None
                errors = [cell[key] / count for key in ("attacked", "photographed", "photographed_top_5")]
                rows.append(
                    [f"{name}, eps {self._shown(eps)}", found.rate, percent_interval(interval), found.fooled, *errors]
                )
        clean, photo = (
            top_k_errors(all_logits(self.model, each), self.y, 1) / count for each in (self.x, self._photo(self.x))
        )
        errors = ["error", "error of photographs", "their top-5 error"]
        return Table(
            f"{self.name}: destruction rate",
            ["attack", "destruction rate", "95 % interval", "fooled", *errors],
            rows,
            percent=("destruction rate", *errors),
            note=prose(__file__, "destruction rate", clean=100 * clean, photo=100 * photo),
        )

    def outcomes(self) -> Table:
        """Billovits's four kinds of outcome, with ranks 1 to 5 in sight."""
        rows = []
        for name in ONE_VIEW:
            for eps in self.outcome_eps:
                cell = self._cell(name, eps)
                rows.append([f"{name}, eps {self._shown(eps)}", *(cell["outcomes"][kind] for kind in KINDS)])
        pairs = int(self.similar.sum()) // 2
        return Table(
            f"{self.name}: kinds of outcome",
            ["attack", *KINDS],
            rows,
            note=prose(__file__, "kinds of outcome", pairs=pairs),
        )

    def picture(self) -> Figure:
        """Clean images, and the photographs of their FGSM images."""
        few = slice(0, 8)
        x, y = self.x[few], self.y[few]
        photo = self.world(FGSM(self.eps[-1])(self.model, x, y), self.index[few])
        (before, sure), (after, surely) = (confident(all_logits(self.model, each)) for each in (x, photo))
        confidences = {"clean_confidences": sure, "adversarial_confidences": surely}
        return adversarial_grid(x, photo, y, before, after, after_name="FGSM,\nphotograph", **confidences)

    def crafted(self, attack: Attack) -> Tensor:
        """The test images attacked; an ``EOT`` sees photographs, which are the same in every process."""
        target = nn.Sequential(PhysicalWorld(), self.model) if isinstance(attack, EOT) else self.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return attacked(attack, target, self.x, self.y, self.at_once, self.index)

    def _shown(self, eps: float) -> str:
        return f"{eps:g}" if self.name == "MNIST" else as_text(eps)

    def _cell(self, name: str, eps: float) -> dict:
        shown = eps if self.name == "MNIST" else round(255 * eps)
        return self.kept.figures(f"{name} {shown}", partial(self._measured, ATTACKS[name](eps)))

    def _measured(self, attack: Attack) -> dict:
        crafted = self.crafted(attack)
        before, after = all_logits(self.model, self.x), all_logits(self.model, crafted)
        photo = all_logits(self.model, self._photo(crafted))
        return vars(destruction(before, after, photo, self.y)) | {
            "attacked": top_k_errors(after, self.y, 1),
            "photographed": top_k_errors(photo, self.y, 1),
            "photographed_top_5": top_k_errors(photo, self.y, 5),
            "outcomes": vars(outcomes(before, after, self.y, self.similar)),
        }

    def _photo(self, x: Tensor) -> Tensor:
        parts = zip(x.split(self.at_once), self.index.split(self.at_once), strict=True)
        return torch.cat([self.world(image, index) for image, index in parts])
