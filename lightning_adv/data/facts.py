"""What a datamodule tells of its images, this project's or a stranger's."""

from collections.abc import Callable, Iterable, Sequence

from pytorch_lightning import LightningDataModule

from lightning_adv.backdoors import PoisonPlan, Target, Trigger
from lightning_adv.data.wrapped import WrapsDataModule

__all__ = ["DataFacts", "class_name"]


class DataFacts:
    """What any datamodule says of itself; None for what it does not, since Lightning asks none of this of it.

    Args:
        data: the datamodule; None where the trainer was given loaders.

    Example:
        >>> from lightning_adv.data import MNISTSubset
        >>> DataFacts(MNISTSubset()).num_classes, DataFacts(LightningDataModule()).num_classes
        (10, None)
    """

    def __init__(self, data: LightningDataModule | None) -> None:
        self._data = data

    @property
    def name(self) -> str | None:
        """What the image set is called in reports."""
        if isinstance(self._data, WrapsDataModule):
            return f"{class_name(type(self._data))} of {DataFacts(self._data.data).name}"
        told = self._told("known_as")
        return told if isinstance(told, str) or self._data is None else class_name(type(self._data))

    @property
    def num_classes(self) -> int | None:
        """How many classes there are."""
        return self._told("num_classes")

    @property
    def class_names(self) -> Sequence[str] | None:
        """Their names."""
        return self._told("class_names")

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of an image."""
        channels, size = self._told("in_channels"), self._told("image_size")
        return (channels, *size) if channels and size else None

    @property
    def preparation(self) -> str | None:
        """How pictures become images of that shape, in words."""
        told = self._told("preparation")
        return None if told is None else str(told)

    @property
    def trigger(self) -> Trigger | None:
        """What images carry to set the backdoor off."""
        return self._told("test_trigger") or self._told("trigger")

    @property
    def target(self) -> Target | None:
        """The class that the trigger leads to."""
        return self._told("target")

    @property
    def plan(self) -> PoisonPlan | None:
        """Which training images are poisoned; a stranger's datamodule may call anything so."""
        told = self._told("plan")
        return told if isinstance(told, PoisonPlan) else None

    @property
    def source_classes(self) -> Sequence[int] | None:
        """Classes whose images it leads there, where not all of them."""
        return self._told("source_classes")

    @property
    def calibration_dataloader(self) -> Callable[[], Iterable] | None:
        """Makes a loader of clean held-out images that a defender owns."""
        return self._told("calibration_dataloader")

    def _told(self, name: str) -> object | None:
        return getattr(self._data, name, None)


def class_name(cls: type) -> str:
    """Name of a class, behind that of its module where it is a stranger's, who may call it like one of this package.

    Example:
        >>> class_name(LightningDataModule).endswith("datamodule.LightningDataModule"), class_name(DataFacts)
        (True, 'DataFacts')
    """
    return cls.__qualname__ if cls.__module__.startswith("lightning_adv.") else f"{cls.__module__}.{cls.__qualname__}"
