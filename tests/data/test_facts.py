from pytorch_lightning import LightningDataModule

from lightning_adv.backdoors import Patch
from lightning_adv.data import DataFacts, PoisonedDataModule
from tests.data.builders import MarkedData


class Unread(LightningDataModule):
    """A stranger's, which knows its classes once it is set up."""

    @property
    def class_names(self):
        raise RuntimeError("set up first")


def test_a_stranger_is_asked_for_nothing_that_it_cannot_know_before_it_is_set_up():
    told = DataFacts(PoisonedDataModule(Unread(), Patch(size=1), target=1, poisoned=0.5))
    assert (told.num_classes, told.shape, told.calibration_dataloader) == (None, None, None)


def test_a_wrapper_tells_its_own_facts_and_those_of_what_it_wraps():
    inner, trigger = MarkedData(), Patch(size=1)
    told = DataFacts(PoisonedDataModule(inner, trigger, target=1, poisoned=0.5))
    assert (told.trigger, told.target) == (trigger, 1)
    assert (told.num_classes, told.class_names) == (inner.num_classes, inner.class_names)
    assert told.shape == (inner.in_channels, *inner.image_size)


def test_no_datamodule_tells_nothing():
    assert DataFacts(None).class_names is None


def test_a_set_is_called_by_its_class_and_by_what_it_wraps():
    told = DataFacts(PoisonedDataModule(MarkedData(), Patch(size=1), target=1, poisoned=0.5))
    assert told.name == "PoisonedDataModule of tests.data.builders.MarkedData"
    assert DataFacts(Unread()).name == "tests.data.test_facts.Unread"
    assert DataFacts(None).name is None
