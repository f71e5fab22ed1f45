"""Any image data whose training images are purified once (LGAP's last step: fine-tuning on purified images)."""

import hashlib
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from lightning_adv.data.datamodule import ImageDataModule
from lightning_adv.data.images import IndexedImages, ResidentImages
from lightning_adv.data.pieces import ImagePieces
from lightning_adv.data.wrapped import WrapsDataModule
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.pixels import digests, float_images
from lightning_adv.purifiers import Purifier, fingerprint

__all__ = ["PurifiedDataModule"]

SPLITS = ("train", "val", "test", "calibration")


class PurifiedDataModule(WrapsDataModule, LightningDataModule):
    """Another datamodule whose images are purified once, into a cache on disk, and then trained on at full speed.

    The images are cut into pieces that the ranks share; a piece is written when it is done, so that a run that was
    killed goes on where it stopped, with any number of ranks. Several machines need a folder that they share. The cache
    is keyed by the purifier (its settings, weights and seed) and by the images: another purifier never reads it.
    Purified images are kept as uint8, as a picture file would keep them. Augmentation follows in training, as the data
    has it.

    Args:
        data: the images; one of this project's datamodules.
        purifier: what they go through.
        cache: folder for the purified images; they are kept in a folder of their own in it.
        splits: which are purified. Evaluations that purify by themselves (``PurificationEvaluation``) want the others
            as they are.
        piece: images that are purified at once and kept in one file.

    Raises:
        InputError: another kind of datamodule, an unknown split, a piece below 1; when set up, a purifier that does not
            fit the images, a file of the cache that is damaged.

    Example:
        >>> import tempfile
        >>> from lightning_adv.data import MNISTSubset
        >>> from lightning_adv.purifiers import BitDepth
        >>> with tempfile.TemporaryDirectory() as cache:
        ...     data = PurifiedDataModule(MNISTSubset(max_train_samples=20), BitDepth(1), cache)
        ...     data.setup()
        >>> data.datasets["train"][[0, 1]].image.unique()
        tensor([  0, 255], dtype=torch.uint8)
    """

    def __init__(
        self,
        data: LightningDataModule,
        purifier: Purifier,
        cache: str = "runs/purified",
        splits: list[str] = ["train"],  # noqa: B006 (the command line shows it)
        piece: int = 256,
    ) -> None:
        super().__init__(data)
        if not isinstance(data, ImageDataModule):
            raise InputError(
                f"PurifiedDataModule purifies the splits of this project's datamodules, got {type(data).__name__}; "
                "use ArrayData or ImageFolder for images of your own"
            )
        if not splits or not set(splits) <= set(SPLITS):
            raise InputError(f"splits must be some of {', '.join(SPLITS)}, got {list(splits)}")
        at_least_one(piece=piece)
        self.purifier, self.cache, self.splits, self.piece = purifier, cache, list(splits), piece
        self._key: str | None = None  # of the purifier, once all is purified

    def setup(self, stage: str | None = None) -> None:
        """Set the data up, and purify what is not in the cache yet; on all ranks together."""
        super().setup(stage)
        if self._key is not None:
            return
        key = fingerprint(self.purifier)
        for split in self.splits:
            if split in self.data.datasets:
                self.data.datasets[split] = self._purified(self.data.datasets[split], key)
        self._key = key

    def train_dataloader(self) -> DataLoader:
        """The data's, over purified images."""
        return self.data.train_dataloader()

    def state_dict(self) -> dict[str, object]:
        """Which purifier made the images, and the data's state."""
        return {"purifier": self._key or fingerprint(self.purifier), "data": self.data.state_dict()}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Refuse to go on with images of another purifier."""
        own = self._key or fingerprint(self.purifier)
        if state_dict["purifier"] != own:
            raise InputError(
                f"the checkpoint was trained on images of another purifier ({state_dict['purifier']}, now {own}): keep "
                "purifier and its weights of the run, or start a new one"
            )
        self.data.load_state_dict(state_dict["data"])

    def _purified(self, images: IndexedImages, key: str) -> ResidentImages:
        images = images.for_evaluation()  # random transforms come after, if at all
        folder = Path(self.cache).expanduser() / f"{key}-{_images_key(images)}"
        pieces = ImagePieces(folder, len(images), self.piece)
        missing = pieces.missing(*self.data.processes())
        if missing:
            rank_zero_info(f"purifying {len(missing)} of {len(pieces)} pieces of {self.piece} images into {folder}")
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        purifier = self.purifier.to(device)
        for numbers in missing:
            batch = images[numbers]
            with torch.no_grad():
                pieces.write(numbers, purifier(float_images(batch.image.to(device)), batch.index.to(device)))
        if self.trainer is not None:
            self.trainer.strategy.barrier("purified images")
        return ResidentImages(torch.cat(list(pieces)), images.labels, images.index)


def _images_key(images: IndexedImages) -> str:
    """16 hexadecimal digits of the images: of their pixels, or of their files' names, sizes and times."""
    digest = hashlib.blake2b(images.index.numpy().tobytes(), digest_size=8)
    looked_at = 1 if images.loads_files else len(images)  # of files, name, size and time tell more cheaply
    for rows in torch.arange(looked_at).split(4096):
        digest.update("".join(digests(float_images(images[rows.tolist()].image))).encode())
    for file in filter(None, map(images.file_of, images.index.tolist())):
        digest.update(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()
