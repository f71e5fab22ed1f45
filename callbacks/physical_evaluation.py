"""Adversarial images in front of a camera, at the end of an epoch (Kurakin, Goodfellow, Bengio, 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from lightning_adv.asking import NO_CLASS, check_labels, logits_in_parts, logits_of, predicted
from lightning_adv.attacks import EOT, Attack, PhysicalWorld
from lightning_adv.attacks.budget import Budget, as_eps, as_text
from lightning_adv.attacks.noise import content_index
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.errors import InputError
from lightning_adv.evaluation.first_few import FirstFew
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.share import EvaluationBatch, Share
from lightning_adv.metrics import Destruction, outcomes_of_predictions, similar_classes
from lightning_adv.results.physical import PhotographedAttack, PhotographTally, PhysicalResult
from lightning_adv.results.strips import Strip, StripRow

__all__ = ["PhysicalEvaluation"]

CONFUSED = 0.01
"""Classes are related where so large a share of the clean images of one is taken for the other."""

Key = tuple[str, float | None]
"""Name of an attack, and its eps."""


@dataclass(frozen=True)
class _Measured:
    """What this rank has measured; of its first images the labels, and by row of the picture images and predictions."""

    judge: Judge
    clean: PhotographTally
    tallies: dict[Key, PhotographTally]
    labels: FirstFew
    shown: dict[str, FirstFew]


class PhysicalEvaluation(EpochEndEvaluation[_Measured]):
    """Whether attacks survive being printed and photographed, and what they make of the images before that.

    The destruction rate is the share of an attack's successes whose simulated photographs are classified correctly
    again. An attack given as ``EOT`` is made through the camera, over the mean of its photographs; all others are made
    on the model alone. The outcomes of the attacks are counted by kind (Billovits et al.). A randomised model is judged
    by the mean of draws that no attack has seen.

    Logs ``{stage}/physical/{attack}/destruction_rate`` and ``photograph_accuracy``, with ``/eps_...`` behind the attack
    where there are several, and ``{stage}/physical/photograph_accuracy`` of clean images.

    Args:
        attacks: name to attack.
        eps: budgets to scale every attack to that has one; none for each attack's own.
        world: the camera; default one with its defaults.
        families: names of classes that are related, e.g. ``[[cat, dog], [car, truck]]``; None for those that the model
            confuses on at least one clean image in a hundred.
        max_samples: images over all ranks, a seeded choice; None for all.
        examples: images that the picture shows.
        **shared: see ``EpochEndEvaluation``.

    Raises:
        InputError: no attack, an eps out of range or without an attack that has one; before training starts: images
            that the camera cannot take, a family of unknown classes.

    Example:
        >>> from lightning_adv.attacks import BIM, FGSM
        >>> PhysicalEvaluation({"fgsm": FGSM(), "bim": BIM()}, eps=["4/255", "8/255"]).eps["Linf"][0] * 255
        4.0
    """

    default_name: ClassVar[str] = "physical"

    def __init__(
        self,
        attacks: dict[str, Attack],
        eps: Sequence[Budget] = (),
        world: PhysicalWorld | None = None,
        families: list[list[str]] | None = None,
        max_samples: int | None = 500,
        examples: int = 8,
        **shared: Shared,
    ) -> None:
        super().__init__(max_samples=max_samples, **shared)
        if not attacks or any(not key or "/" in key for key in attacks):
            raise InputError("attacks of PhysicalEvaluation must be named, without a slash: attacks: {fgsm: FGSM}")
        self.require(0, examples=examples)
        self.attacks, self.families, self.examples = dict(attacks), families, examples
        self.world = PhysicalWorld() if world is None else world
        norms = {attack.norm for attack in attacks.values() if attack.eps}
        if eps and not norms:
            raise InputError("eps is given, and no attack of PhysicalEvaluation has a budget that it could scale")
        self.eps = {norm: sorted({as_eps(each, norm) for each in eps}) for norm in norms}
        if any(budgets and budgets[0] == 0 for budgets in self.eps.values()):
            raise InputError("eps of PhysicalEvaluation starts above 0; images without attack are always photographed")

    def check(self, model: LightningModule, images: Share) -> None:
        """Take a photograph, and look the families up."""
        first = images.first()
        classes = logits_in_parts(model, self.world(first.image, first.index)).shape[1]
        self._related(self.class_names(images.trainer, classes))

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Measured:
        """Attack, photograph and classify this rank's images."""
        judge = Judge(model, images, self.seed)
        tallies = {key: PhotographTally().to(model.device) for key in self._keys()}
        measured = _Measured(judge, PhotographTally().to(model.device), tallies, FirstFew(self.examples), {})
        for batch in self.track(trainer, images.balanced(), self.name):
            check_labels(batch.label, judge.classes)
            self._evaluate(model, batch, measured)
        return measured

    def results(self, trainer: Trainer, measured: _Measured) -> PhysicalResult:
        """Counts over all ranks."""
        classes = measured.judge.classes
        names = self.class_names(trainer, classes)
        label, clean, _, photo, *_ = measured.clean.compute().cpu().T
        known = clean != NO_CLASS
        said = F.one_hot(clean[known], classes).float()
        related = self._related(names)
        related = similar_classes(said, label[known], CONFUSED) if related is None else related
        tables = {key: tally.compute().cpu() for key, tally in measured.tallies.items()}
        lost = {key: int((table[:, 1:4] == NO_CLASS).any(dim=1).sum()) for key, table in tables.items()}
        return PhysicalResult(
            title="Physical world",
            warnings=measured.judge.notes
            + [each for (name, _), count in lost.items() for each in nan_warnings(count, len(label), name)],
            rows=[self._row(key, table, related) for key, table in tables.items()],
            samples=len(label),
            clean_correct=int((clean == label).sum()),
            photographed_correct=int((photo == label).sum()),
            world=repr(self.world),
            descriptions={name: repr(attack) for name, attack in self.attacks.items()},
            related=[(names[i], names[j]) for i, j in related.triu().nonzero().tolist()],
            strips=_strips(measured),
            class_names=names,
        )

    def _keys(self) -> list[Key]:
        keys: list[Key] = []
        for name, attack in self.attacks.items():
            keys += [(name, eps) for eps in (self.eps[attack.norm] if attack.eps else ()) or [attack.eps]]
        return keys

    def _evaluate(self, model: LightningModule, batch: EvaluationBatch, measured: _Measured) -> None:
        image, label, index = batch.image.float(), batch.label, batch.index
        judge, tallies = measured.judge, measured.tallies
        measured.labels.add(label)
        last = dict(tallies.keys())  # of several budgets of an attack the largest stays

        def photographed(title: str, taken: Tensor, logits: Tensor, show: bool) -> Tensor:
            photo = self.world(taken, index)
            seen = judge(photo, index)
            for row, images, said in ((title, taken, logits), (f"{title}:\nphotograph", photo, seen)):
                if show:
                    measured.shown.setdefault(row, FirstFew(self.examples)).add(images, predicted(said))
            return seen

        clean = judge(image, index)
        measured.clean.update(label, clean, clean, photographed("clean", image, clean, show=True))
        for (name, eps), tally in tallies.items():
            attack = self.attacks[name]
            attack = attack.scaled(eps / attack.eps) if eps else attack
            target = _BehindTheCamera(self.world, model, attack.draws) if isinstance(attack, EOT) else model
            crafted = attack(target, image, label, index=index)
            logits = judge(crafted, index)
            title = name if eps is None else f"{name},\neps {as_text(eps)}"
            tally.update(label, clean, logits, photographed(title, crafted, logits, show=eps == last[name]))

    def _row(self, key: Key, table: Tensor, related: Tensor) -> PhotographedAttack:
        label, before, after, photo, in_sight, *top_5 = table.T
        fooled = (before == label) & (after != label)
        name, eps = key
        return PhotographedAttack(
            attack=name,
            eps=eps,
            aware=isinstance(self.attacks[name], EOT),
            destruction=Destruction(int(fooled.sum()), int((fooled & (photo == label)).sum())),
            outcomes=outcomes_of_predictions(before, after, label, in_sight.bool(), related),
            top_5=tuple(int(each.sum()) for each in top_5),
            photographed_correct=int((photo == label).sum()),
        )

    def _related(self, names: list[str]) -> Tensor | None:
        """[K, K] bool of the families given."""
        if self.families is None:
            return None
        unknown = sorted({each for family in self.families for each in family} - set(names))
        if unknown:
            raise InputError(
                f"families of PhysicalEvaluation: there is no class {', '.join(unknown)}; the classes are "
                f"{', '.join(names[:20])}{' ...' if len(names) > 20 else ''}"
            )
        related = torch.zeros(len(names), len(names), dtype=torch.bool)
        for family in self.families:
            members = torch.tensor([names.index(each) for each in family])
            related[members[:, None], members] = True
        return related & ~torch.eye(len(names), dtype=torch.bool)


def _strips(measured: _Measured) -> list[Strip]:
    labels = measured.labels.joined()
    if labels is None:
        return []
    rows = [StripRow(title, *few.joined()) for title, few in measured.shown.items()]
    return [Strip("photographs", "Images, attacked images and their photographs", labels[0], rows)]


class _BehindTheCamera(nn.Module):
    """The model as an attacker tries it: another photograph for every image that is tried and every draw.

    Args:
        world: the camera.
        model: the classifier.
        draws: copies of an image that follow each other in a batch.
    """

    def __init__(self, world: PhysicalWorld, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.world, self.model, self.draws = world, model, draws

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K]."""
        # Numbers made from pixels, so that neither batches nor ranks decide which photographs an attacker takes.
        index = content_index(x) + torch.arange(len(x), device=x.device) % self.draws
        return logits_of(self.model, self.world(x, index))
