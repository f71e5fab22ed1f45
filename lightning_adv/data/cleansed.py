"""Any image data without the training images that a scan suspects, or with them alone."""

import hashlib

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler, Subset

from lightning_adv.data.images import IndexedImages
from lightning_adv.data.loader import ImageLoader
from lightning_adv.data.roles import numbers_of
from lightning_adv.data.wrapped import WrapsDataModule, loader_like
from lightning_adv.errors import InputError
from lightning_adv.scans.scan_file import load_suspects

__all__ = ["CleansedDataModule"]


class CleansedDataModule(WrapsDataModule, LightningDataModule):
    """Another datamodule whose training images lack those that a scan suspects; everything else of it stays as it is.

    Args:
        data: the data that was scanned, with the same seed and the same poison, if any.
        scan: file that ``PoisonScan`` wrote, ``scan_NAME.safetensors`` in its run's folder.
        only_suspects: train on the suspects in place of the others, to unlearn them (``GradientAscent``).

    Raises:
        InputError: no such file, or one of another kind; when the training loader is made, a scan of other images or of
            other labels, one that leaves no image, a loader whose order of images cannot be kept; a checkpoint of
            another choice.

    Example:
        >>> import tempfile
        >>> from lightning_adv.data import MNISTSubset
        >>> from lightning_adv.scans import ScanReport
        >>> from lightning_adv.scans.scan_file import save_scan
        >>> images = MNISTSubset(max_train_samples=30).images("train")
        >>> suspect = torch.arange(30) < 4
        >>> report = ScanReport("by hand", images.index, images.labels, torch.zeros(30), suspect, ())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_scan(f"{folder}/scan.safetensors", report)
        ...     data = CleansedDataModule(MNISTSubset(max_train_samples=30), f"{folder}/scan.safetensors")
        >>> len(data.train_dataloader().dataset)
        26
    """

    def __init__(self, data: LightningDataModule, scan: str, only_suspects: bool = False) -> None:
        super().__init__(data)
        self.scan, self.only_suspects = scan, only_suspects
        self._number, self._label, suspect = load_suspects(scan)
        self._suspects = self._number[suspect]

    def train_dataloader(self) -> DataLoader:
        """The data's loader, with its augmentation and poison, over the images that are left."""
        loader = self.data.train_dataloader()
        if isinstance(loader, ImageLoader):
            return self.data.training_loader(loader.dataset.select(self._kept(loader.dataset)))
        plain = isinstance(loader, DataLoader) and type(loader.sampler) in (SequentialSampler, RandomSampler)
        if not plain or loader.batch_size is None:
            raise InputError(
                f"CleansedDataModule leaves out images of one loader of (image, label) in order or shuffled, got "
                f"{type(loader).__name__}; give the training data with shuffle=True"
            )
        return loader_like(
            loader,
            Subset(loader.dataset, self._kept(loader.dataset).tolist()),
            batch_size=loader.batch_size,
            shuffle=isinstance(loader.sampler, RandomSampler),
            drop_last=loader.drop_last,
        )

    def _kept(self, images: Dataset) -> Tensor:
        """Positions of the images that are left."""
        number = numbers_of(images)
        unknown = self._number[~torch.isin(self._number, number)]
        if len(unknown):
            raise InputError(
                f"{self.scan} is a scan of other images: number {int(unknown[0])} is none of the {len(number)} here; "
                "give the data of that run, with its seed and its number of training images"
            )
        if isinstance(images, IndexedImages):
            order = number.argsort()
            own = images.labels.cpu()[order[torch.searchsorted(number[order], self._number)]]
            if 2 * int((own != self._label).sum()) > len(own):  # poison changes some labels, another set most
                raise InputError(f"{self.scan} is a scan of other images: most of their labels differ; give its data")
        kept = torch.isin(number, self._suspects, invert=not self.only_suspects).nonzero().flatten()
        if not len(kept):
            which = "no image" if self.only_suspects else "every image"
            raise InputError(f"{self.scan} suspects {which}: nothing is left to train on")
        return kept

    def state_dict(self) -> dict[str, object]:
        """Which images are left out, and the data's state."""
        return {"suspects": self._fingerprint(), "data": self.data.state_dict()}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Refuse to go on without other images."""
        if state_dict["suspects"] != self._fingerprint():
            raise InputError(
                "the checkpoint was trained without the suspects of another scan: keep that one, or start a new run"
            )
        self.data.load_state_dict(state_dict["data"])

    def _fingerprint(self) -> str:
        known = hashlib.blake2b(self._suspects.numpy().astype("<i8").tobytes(), digest_size=8).hexdigest()
        return f"only {known}" if self.only_suspects else known
