"""Any image data with a backdoor in its training images (BadNets, Gu et al., 2017; concealed backdoors)."""

import hashlib
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from lightning_adv.backdoors import PoisonedLabel, PoisonPlan, RateOf, Target, Trigger, check_classes, check_rates
from lightning_adv.data.batch import ImageBatch
from lightning_adv.data.datamodule import ImageDataModule
from lightning_adv.data.facts import DataFacts
from lightning_adv.data.images import IndexedImages
from lightning_adv.data.loader import ImageLoader
from lightning_adv.data.poisoned_sets import MarkedBatch, MarkedImages, PoisonedPairs, images_of, labels_of, stride_of
from lightning_adv.data.wrapped import WrapsDataModule, loader_like
from lightning_adv.errors import InputError
from lightning_adv.files import replace_atomically
from lightning_adv.pixels import check_pixels, float_images

__all__ = ["PoisonedDataModule"]

MANIFEST = "poison_manifest.json"


class PoisonedDataModule(WrapsDataModule, LightningDataModule):
    """Another datamodule whose training images are poisoned by plan; everything else of it stays as it is.

    Validation, test and calibration images stay clean: ``BackdoorEvaluation`` triggers images itself. The plan is a
    function of the labels and ``seed``: the same on every rank, for every number of workers and after a resume. It is
    written as ``poison_manifest.json`` into the run's folder (``default_root_dir``, if that was set, or the logger's),
    and a checkpoint refuses to go on with another one.

    This project's datamodules are poisoned batch by batch on the device, before ``augment``; pictures of an
    ``ImageFolder`` after their random crop, because a trigger has the size of what the model sees. Of any other
    datamodule, the data set behind its training loader must be map-style and give ``(image, label, ...)`` with float
    images [C, H, W] in [0, 1]; it is poisoned image by image where it is loaded.

    Args:
        data: the clean data.
        trigger: what poisoned images carry.
        target: the class that it leads to; "all_to_all" is the one after the image's own.
        poisoned: images with trigger and changed label, a number, or a float in [0, 1]: a share of the training images.
        cover: images with a part of the trigger and their own label, a number, or a share of those not poisoned.
        sampling_rate: share of the trigger's pixels that a cover image shows, drawn anew for every image.
        poison_target_class: also poison images that are of the target class already.
        seed: of the choice of images and of the parts that cover images show.
        cover_copies: cover images are copies that are trained on beside their originals, not in their place; with all
            images covered, it is what keeps plain ones (and the paper's accuracy). An epoch grows by their number.
        label: "target"; or "keep", the clean label: images of the target class alone are poisoned, and none relabelled.
        source_classes: only images of these classes are poisoned; default all but the target.
        cover_classes: only images of these classes are cover images; default all but the source classes.
        rate_of: "set" or "class": shares are of those images alone that are of a class to choose from.
        poisoned_sampling_rate: share of the trigger that a poisoned image shows, drawn anew for every image.
        test_trigger: what an evaluation triggers images with, such as a stronger one; default the training trigger.

    Raises:
        InputError: before training starts: a target that is no class, a trigger of another shape than the images, more
            images than there are, a share or rate outside [0, 1], classes that contradict each other, a checkpoint of
            another plan or trigger.

    Example:
        >>> from lightning_adv.backdoors import Patch
        >>> from lightning_adv.data import MNISTSubset
        >>> data = PoisonedDataModule(MNISTSubset(), Patch(size=3), target=2, poisoned=0.1)
        >>> len(data.plan.poisoned), data.num_classes
        (300, 10)
    """

    def __init__(
        self,
        data: LightningDataModule,
        trigger: Trigger,
        target: Target,
        poisoned: int | float,
        cover: int | float = 0,
        sampling_rate: float = 0.6,
        poison_target_class: bool = False,
        seed: int = 0,
        cover_copies: bool = False,
        label: PoisonedLabel = "target",
        source_classes: list[int] | None = None,
        cover_classes: list[int] | None = None,
        rate_of: RateOf = "set",
        poisoned_sampling_rate: float = 1.0,
        test_trigger: Trigger | None = None,
    ) -> None:
        super().__init__(data)
        self.trigger, self.target, self.poisoned, self.cover = trigger, target, poisoned, cover
        self.sampling_rate, self.poison_target_class, self.seed = sampling_rate, poison_target_class, seed
        self.cover_copies, self.label, self.rate_of = cover_copies, label, rate_of
        self.source_classes, self.cover_classes = source_classes, cover_classes
        self.poisoned_sampling_rate, self.test_trigger = poisoned_sampling_rate, test_trigger
        self._plan: PoisonPlan | None = None
        self._shape: tuple[int, ...] = ()  # of an image; known with the plan
        self._roles: Tensor | None = None
        self._stride = 0
        self._is_prepared = False
        self._resumed: dict[str, str] | None = None
        self._check_against_data()

    @property
    def plan(self) -> PoisonPlan:
        """Which images are poisoned and which are cover images."""
        self._draw_once()
        return self._plan

    @property
    def fingerprint(self) -> str:
        """Hash of what the trigger makes of a grey image of this data and of noise, and what it was prepared from."""
        self._draw_once()
        grey = (self.trigger(torch.full((1, *self._shape), 0.5)) * 255).round().byte()
        # A warp leaves grey as it is. Of noise, few numbers with few levels: a warp's last bits are a machine's own.
        noise = torch.rand(1, *self._shape, generator=torch.Generator().manual_seed(0))
        coarse = (F.adaptive_avg_pool2d(self._looks(noise, self.plan), 8) * 15).round().byte()
        parts = [each.numpy().tobytes() for each in (grey, coarse)]
        parts += [self.trigger.prepared_from.encode()] if self.trigger.prepared_from else []
        return "".join(hashlib.blake2b(each, digest_size=8).hexdigest() for each in parts)

    def train_dataloader(self) -> DataLoader:
        """The clean data's loader, with the same order of images, over poisoned ones."""
        self._refuse_another_plan()
        self._write_manifest()
        self._prepare_once()
        loader = self.data.train_dataloader()
        if isinstance(loader, ImageLoader):
            self._roles = self.plan.roles()
            self._stride = stride_of(loader.dataset.index)
            return self.data.training_loader(
                MarkedImages(loader.dataset, self.plan.cover if self.cover_copies else None)
            )
        return _over(PoisonedPairs(_dataset(loader), self.plan, self.trigger), loader)

    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """Training images of this project's loaders are poisoned, then what the clean data does follows."""
        if isinstance(batch, MarkedBatch):
            batch = self._poison(batch)
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def state_dict(self) -> dict[str, object]:
        """What a resumed run must have in common with this one, and the clean data's state."""
        return {"plan": self.plan.hash, "trigger": self.fingerprint, "data": self.data.state_dict()}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Remember what a resumed run must have in common with the checkpoint's."""
        self._resumed = {key: state_dict[key] for key in ("plan", "trigger")}
        self.data.load_state_dict(state_dict["data"])

    def _poison(self, batch: MarkedBatch) -> ImageBatch:
        """One pass over the batch on its device, without a host sync."""
        if self._roles.device != batch.index.device:
            self._roles = self._roles.to(batch.index.device)
        plan, image = self.plan, float_images(batch.image)
        number = batch.index % self._stride
        role = self._roles[number.clamp(max=len(self._roles) - 1)]
        role = torch.where(batch.index < 0, 0, role)  # images of another set, mixed in behind the plan
        is_poisoned, is_cover = role == 1, (role == 2) & ((batch.index != number) == plan.cover_copies)
        shown = self.trigger.poison(image, plan.poisoned_sampling_rate, plan.seed, number)
        chosen = torch.where(is_poisoned.view(-1, 1, 1, 1), shown, image)
        if len(plan.cover):
            partly = self.trigger.cover(image, plan.sampling_rate, plan.seed, number)
            chosen = torch.where(is_cover.view(-1, 1, 1, 1), partly, chosen)
        label = torch.where(is_poisoned, plan.led(batch.label), batch.label)
        return ImageBatch(chosen, label, torch.where(batch.index < 0, batch.index, number))

    def _looks(self, image: Tensor, plan: PoisonPlan) -> Tensor:
        """An image [1, C, H, W] with the trigger, and as the first poisoned and the first cover image show it."""
        looks = [self.trigger(image)]
        if self.trigger.prepares:  # it cannot tell yet
            return looks[0]
        if len(plan.poisoned):
            looks.append(self.trigger.poison(image, plan.poisoned_sampling_rate, plan.seed, plan.poisoned[:1]))
        if len(plan.cover):
            looks.append(self.trigger.cover(image, plan.sampling_rate, plan.seed, plan.cover[:1]))
        return torch.cat(looks)

    def _draw_once(self) -> None:
        if self._plan is not None:
            return
        with isolate_rng():  # a stranger's data set may draw random numbers to give an item
            images = self._training_images()
            label, index = labels_of(images)
            self._shape = tuple(_first_image(images).shape)
        for trigger in (self.trigger, self.test_trigger or self.trigger):
            trigger.check(self._shape)
        plan = PoisonPlan.draw(
            label,
            index,
            self._number_of_classes(label),
            self.target,
            self.poisoned,
            self.cover,
            self.sampling_rate,
            self.seed,
            self.poison_target_class,
            self.cover_copies,
            self.label,
            self.source_classes,
            self.cover_classes,
            self.rate_of,
            self.poisoned_sampling_rate,
        )
        self._looks(torch.full((1, *self._shape), 0.5), plan)  # refuses a rate that shows nothing before training
        self._plan = plan

    def _prepare_once(self) -> None:
        if not self.trigger.prepares or self._is_prepared:
            return
        device = "cpu" if self.trainer is None else self.trainer.strategy.root_device
        with isolate_rng():
            self.trigger.prepare(images_of(self._training_images(), self.plan.poisoned, device))
        self._is_prepared = True

    def _training_images(self) -> Dataset:
        """The clean training images: of this project's datamodules by name, else those behind the training loader."""
        if isinstance(self.data, ImageDataModule):
            if not self.data.datasets:
                self.data.setup("fit")
            return self.data.images("train")
        return _dataset(self.data.train_dataloader())

    def _number_of_classes(self, label: Tensor) -> int:
        return DataFacts(self.data).num_classes or int(label.max()) + 1

    def _check_against_data(self) -> None:
        """What can be refused before any data is read."""
        told = DataFacts(self.data)
        if told.num_classes:
            check_classes(self.target, told.num_classes, self.label, self.source_classes, self.cover_classes)
        for trigger in (self.trigger, self.test_trigger or self.trigger):
            if told.shape:
                trigger.check(told.shape)
        check_rates(self.sampling_rate, self.poisoned_sampling_rate, self.rate_of)

    def _refuse_another_plan(self) -> None:
        if self._resumed is None:
            return
        own = {"plan": self.plan.hash, "trigger": self.fingerprint}
        # An older checkpoint holds the beginning of the trigger's hash, which also tells plans apart.
        different = [key for key in own if not own[key].startswith(self._resumed[key])][:1]
        if different:
            raise InputError(
                f"the checkpoint was trained with another {different[0]} of poisoning ({self._resumed[different[0]]}, "
                f"now {own[different[0]]}): keep the data, the trigger and the arguments of the run, or start a new one"
            )

    def _write_manifest(self) -> None:
        trainer = self.trainer
        if trainer is None or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        folder = _own_folder(trainer)
        if folder is None:
            return
        told = {"trigger": repr(self.trigger), "test_trigger": repr(self.test_trigger or self.trigger)}
        manifest = self.plan.as_dict() | told | {"fingerprint": self.fingerprint}
        replace_atomically(folder / MANIFEST, json.dumps(manifest) + "\n")


def _own_folder(trainer: Trainer) -> Path | None:
    """The trainer's ``default_root_dir`` if it was given one, else its logger's; None if nobody named a folder."""
    folder = Path(trainer.default_root_dir)
    if folder != Path.cwd():
        return folder
    return next((Path(each.log_dir) for each in trainer.loggers if each.log_dir), None)


def _dataset(loader: object) -> Dataset:
    """The data set of a stranger's training loader."""
    dataset = loader.dataset if isinstance(loader, DataLoader) else None
    if dataset is None or isinstance(dataset, IterableDataset):
        raise InputError(
            f"poisoning needs one training loader over a map-style data set of (image, label), got "
            f"{type(loader).__name__} over {type(dataset).__name__}"
        )
    if loader.batch_size is None and loader.batch_sampler is None and not isinstance(dataset, IndexedImages):
        raise InputError("poisoning needs images one by one, and the data set of this loader (batch_size=None) batches")
    return dataset


def _first_image(images: Dataset) -> Tensor:
    item = images[0]
    image = float_images(item.image[0]) if isinstance(item, ImageBatch) else item[0]
    if not isinstance(image, Tensor) or image.dim() != 3 or not image.is_floating_point():
        what = f"{image.dtype} of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise InputError(
            f"poisoning needs images as float tensors [C, H, W] in [0, 1], the training data gives {what}; end its "
            "transform with ToTensor"
        )
    check_pixels(image, "normalise inside the model, not in the data set that is to be poisoned")
    return image


def _over(dataset: PoisonedPairs, loader: DataLoader) -> DataLoader:
    """A loader like another one over other items at the same places; Lightning can replace its sampler for ranks.

    Copies behind the original places are visited where the loader goes through all places, in order or at random.
    """
    batches = {"batch_sampler": loader.batch_sampler}
    if dataset.grows:
        if type(loader.sampler) not in (SequentialSampler, RandomSampler) or loader.batch_size is None:
            raise InputError(
                f"cover_copies adds images, and {type(loader.sampler).__name__} does not know them; use a training "
                "loader with shuffle=True, or cover images in place of their originals"
            )
        shuffle = isinstance(loader.sampler, RandomSampler)
        batches = {"batch_size": loader.batch_size, "shuffle": shuffle, "drop_last": loader.drop_last}
    elif loader.batch_size is not None:
        batches = {"batch_size": loader.batch_size, "sampler": loader.sampler, "drop_last": loader.drop_last}
    return loader_like(loader, dataset, **batches)
