"""New training images: made by a diffusion model, chosen by the classifier."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_adv.asking import NO_CLASS, logits_in_parts, predicted
from lightning_adv.callbacks.evaluation import EpochEndEvaluation, Shared
from lightning_adv.data.pieces import ImagePieces
from lightning_adv.errors import InputError
from lightning_adv.evaluation.judge import Judge
from lightning_adv.evaluation.logits import nan_warnings
from lightning_adv.evaluation.share import Share, from_every_rank
from lightning_adv.files import replace_npz
from lightning_adv.pixels import float_images
from lightning_adv.purifiers import DiffusionGenerator, fingerprint
from lightning_adv.results.generated import GeneratedResult

__all__ = ["GeneratedImages"]

FILE = "generated.npz"


@dataclass(frozen=True)
class _Judged:
    """What the judge says of the images made on this rank: their numbers, confidence in their class, and class."""

    pieces: ImagePieces
    judge: Judge
    number: Tensor
    confidence: Tensor
    said: Tensor


class GeneratedImages(EpochEndEvaluation[_Judged]):
    """Makes images of every class by a diffusion model and keeps those that the classifier is surest of.

    Runs after the last epoch, in validate and test. The images kept, ``per_class`` of each class, go with their labels
    into ``generated.npz`` in ``export``, which ``MixedDataModule`` mixes into training data. All are made in pieces,
    which the ranks share and ``export/candidates`` keeps: a run that was killed goes on where it stopped, and another
    classifier chooses among them without making them anew. An image is a function of ``seed`` and its number, whichever
    rank makes it. Several machines need a folder that they share.

    Logs ``{stage}/generated/recognised``, the share of all images that the classifier calls what they were made as, and
    ``confidence`` and ``lowest_confidence``, the probability of its class for those that are kept.

    Args:
        path: of the diffusion model, as ``DiffusionModule`` exports it with ``conditional``.
        export: folder for the images.
        per_class: images of a class to keep.
        keep: share of the images made that is kept, in (0, 1]; lower ones choose more strictly.
        steps: evaluations of the network for an image.
        guidance: how strongly the class is followed; above 1, images are more typical and less diverse, at twice the
            cost.
        scheduler: class of diffusers that takes the steps.
        piece: images that are made at once and kept in one file.
        every_n_epochs: also after so many epochs; None for the last alone.
        **shared: see ``EpochEndEvaluation``; no image of the data is looked at, so ``max_samples`` and the like have no
            say, and ``seed`` is that of the images.

    Raises:
        InputError: a number out of range; before training starts, a diffusion model that cannot be loaded or knows
            other classes or images than the classifier.

    Example:
        >>> GeneratedImages("runs/mnist_diffusion/exported", "runs/generated", per_class=5000).name
        'generated'
    """

    default_name: ClassVar[str] = "generated"
    named_by_default: ClassVar[bool] = True

    def __init__(
        self,
        path: str,
        export: str,
        per_class: int,
        keep: float = 0.5,
        steps: int = 50,
        guidance: float = 1.0,
        scheduler: str = "DDIMScheduler",
        piece: int = 250,
        every_n_epochs: int | None = None,
        **shared: Shared,
    ) -> None:
        super().__init__(every_n_epochs=1 if every_n_epochs is None else every_n_epochs, **shared)
        self.require(1, per_class=per_class, piece=piece)
        if not 0 < keep <= 1:
            raise InputError(f"keep must lie in (0, 1], got {keep}: the share of the images that is kept")
        self.path, self.export, self.per_class, self.keep = path, export, per_class, keep
        self.steps, self.guidance, self.scheduler, self.piece = steps, guidance, scheduler, piece
        self.only_last = every_n_epochs is None
        self._kept: tuple[ImagePieces, Tensor, int] | None = None

    def check(self, model: LightningModule, images: Share) -> None:
        """Refuse a diffusion model of other images or classes than the classifier's."""
        self._generator(logits_in_parts(model, images.first().image).shape[1], images)

    def evaluate(self, trainer: Trainer, model: LightningModule, images: Share) -> _Judged:
        """Make this rank's share of the images, and ask the classifier what they are."""
        judge, device = Judge(model, images, self.seed), images.first().image.device
        generator = self._generator(judge.classes, images).to(device)
        count = judge.classes * int(np.ceil(self.per_class / self.keep - 1e-9))
        folder = Path(self.export).expanduser() / "candidates" / fingerprint(generator)
        pieces, found = ImagePieces(folder, count, self.piece), []
        ranks = trainer.world_size, trainer.global_rank
        missing = {each.start for each in pieces.missing(*ranks)}
        for numbers in self.track(trainer, pieces.shared_out(*ranks), self.name):
            number = torch.arange(numbers.start, numbers.stop, device=device)
            label = number % judge.classes
            if numbers.start in missing:
                with torch.autocast(device.type, enabled=False):  # an image does not depend on the run's precision
                    pieces.write(numbers, generator(label, number))
            logits = judge(float_images(pieces.read(numbers).to(device)), number)
            sure = logits.softmax(dim=1).nan_to_num(nan=0.0).gather(1, label[:, None])[:, 0]
            found.append((number.cpu(), sure.cpu(), predicted(logits).cpu()))
        none = torch.zeros(0, dtype=torch.long)
        number, sure, said = (torch.cat(parts) for parts in zip((none, none.float(), none), *found, strict=True))
        return _Judged(pieces, judge, number, sure, said)

    def results(self, trainer: Trainer, measured: _Judged) -> GeneratedResult:
        """Choose among the images of all ranks."""
        pieces, classes = measured.pieces, measured.judge.classes
        ranks = from_every_rank(trainer, (measured.number, measured.confidence, measured.said))
        number, confidence, said = (torch.cat(parts) for parts in zip(*ranks, strict=True))
        order = number.argsort()  # then the images of a class are every K-th
        confidence, said = (each[order].view(-1, classes).T for each in (confidence, said))  # [K, made]
        surest = confidence.argsort(dim=1, descending=True, stable=True)
        numbers, confidence = surest * classes + torch.arange(classes)[:, None], confidence.gather(1, surest)
        kept = said.gather(1, surest)[:, : self.per_class]
        self._kept = pieces, numbers[:, : self.per_class].flatten().sort().values, classes
        places = {"surest": 0, "median": self.per_class // 2, "last kept": self.per_class - 1, "least sure": -1}
        return GeneratedResult(
            title="Generated images",
            warnings=[
                *measured.judge.notes,
                *nan_warnings(int((said == NO_CLASS).sum()), said.numel()),
                *_mislabelled(int((kept != torch.arange(classes)[:, None]).sum()), kept.numel()),
            ],
            class_names=self.class_names(trainer, classes),
            made=said.shape[1],
            recognised=(said == torch.arange(classes)[:, None]).sum(dim=1),
            confidence=confidence[:, : self.per_class],
            shown={name: _at(pieces, numbers[:, place]) for name, place in places.items()},
            shown_confidence={name: confidence[:, place] for name, place in places.items()},
        )

    def write(self, trainer: Trainer, model: LightningModule, folder: Path) -> None:
        """Write the images that are kept, and their labels."""
        if self._kept is None:  # measured before an interruption, and written then
            return
        pieces, numbers, classes = self._kept
        images = (part.numpy() for part in _piecewise(pieces, numbers))
        labels = [(numbers % classes).numpy()]
        replace_npz(Path(self.export).expanduser() / FILE, image=(len(numbers), images), label=(len(numbers), labels))

    def _generator(self, classes: int, images: Share) -> DiffusionGenerator:
        generator = DiffusionGenerator(self.path, self.steps, self.guidance, self.scheduler, self.seed)
        own = classes, tuple(images.first().image.shape[1:])
        if own != (generator.num_classes, generator.shape):
            raise InputError(
                f"{self.path} makes images of {generator.num_classes} classes and shape {list(generator.shape)}, and "
                f"the classifier sees {own[0]} classes and {list(own[1])}: take a diffusion model of the same data"
            )
        return generator

    def _is_due(self, trainer: Trainer) -> bool:
        return self._is_last(trainer) if self.only_last else super()._is_due(trainer)


def _mislabelled(count: int, kept: int) -> list[str]:
    """The sentence that a report owes to whoever trains on images which the classifier takes for another class."""
    remedy = "keep a smaller share, or train the diffusion model for longer"
    return [f"{count} of the {kept} images kept are of another class to the classifier: {remedy}"] if count else []


def _at(pieces: ImagePieces, numbers: Tensor) -> Tensor:
    """Images [n, C, H, W] of these numbers [n], in their order."""
    order = numbers.argsort()
    return float_images(torch.cat(list(_piecewise(pieces, numbers[order]))))[order.argsort()]


def _piecewise(pieces: ImagePieces, numbers: Tensor) -> Iterator[Tensor]:
    """The images of these numbers, ascending, as many at a time as a piece has."""
    for piece in pieces.shared_out(1, 0):
        own = numbers[(numbers >= piece.start) & (numbers < piece.stop)] - piece.start
        if len(own):
            yield pieces.read(piece)[own]
