"""A gallery after the last epoch, for any module."""

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_adv.callbacks import FoolingImages
from lightning_adv.errors import InputError
from lightning_adv.fooling import FoolingEvolution, FoolingGradient
from tests.callbacks.strangers import CHANNELS, SIZE, images, trained, trainer

METHODS = {"gradient": FoolingGradient(steps=10), "direct": FoolingEvolution(generations=5, population=20)}


def fitted(callback: FoolingImages, epochs: int = 2):
    run = trainer(callback, max_epochs=epochs, num_sanity_val_steps=0)
    loader = DataLoader(images(32, seed=1), batch_size=16)
    run.fit(trained(), loader, loader)
    return run


def test_the_gallery_is_made_after_the_last_epoch_alone():
    callback = FoolingImages(METHODS)
    run = fitted(callback)
    assert callback.result.epoch == 2
    assert [len(points) for points in callback.history.values()] == [1] * 4
    found = callback.result.found["gradient"]
    assert found.images.shape == (4, CHANNELS, SIZE, SIZE)
    assert run.callback_metrics["val/gradient/median_confidence"].item() == pytest.approx(found.median_confidence)
    assert set(callback.result.seconds) == set(METHODS)


def test_it_can_come_more_often():
    callback = FoolingImages({"gradient": METHODS["gradient"]}, every_n_epochs=1)
    fitted(callback)
    assert [len(points) for points in callback.history.values()] == [2, 2]


def test_the_images_are_those_of_the_method_on_the_model():
    model, callback = trained(), FoolingImages(METHODS, classes=[3, 1])
    trainer(callback).validate(model, DataLoader(images(32, seed=1), batch_size=16), verbose=False)
    expected = METHODS["direct"](model, (CHANNELS, SIZE, SIZE), [3, 1])
    assert torch.equal(callback.result.found["direct"].images, expected.images)
    assert callback.result.class_names == ["3", "1"]


def test_a_class_that_the_model_lacks_is_refused_before_training():
    with pytest.raises(InputError, match=r"classes of FoolingImages must be some of 0 \.\. 3"):
        fitted(FoolingImages(METHODS, classes=[4]))


def test_no_method_is_refused():
    with pytest.raises(InputError, match="methods is empty"):
        FoolingImages({})
