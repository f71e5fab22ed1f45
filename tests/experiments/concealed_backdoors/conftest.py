"""One repeat of a cell, measured once for all tests of the concealed-backdoor experiment."""

from dataclasses import replace
from functools import partial

import pytest

from experiments.concealed_backdoors.measure import QUICK, kept, quick
from experiments.concealed_backdoors.setup import SETTINGS
from lightning_adv.data import MNISTSubset
from lightning_adv.mitigations import FinePruning, NeuralCleanseUnlearning
from tests.experiments.concealed_backdoors.measured import RECONSTRUCTED


@pytest.fixture(scope="package", autouse=True)
def short_repairs():
    """One epoch of each: what is asked here is what becomes of the figures."""
    with pytest.MonkeyPatch.context() as patch:
        for repair in (FinePruning, NeuralCleanseUnlearning):
            patch.setattr(f"experiments.concealed_backdoors.measure.{repair.__name__}", partial(repair, epochs=1))
        yield


@pytest.fixture(scope="package")
def setting():
    """The quick budget on the digits that come with a package."""
    few = {"arguments": QUICK | {"max_train_samples": 600}, "poisoned": 60, "epochs": 2, "samples": 20}
    budget = {"cleanse": {"steps": 20, "images_per_step": 32}, "inspect": {"steps": 2, "images_per_step": 32}}
    return replace(quick(SETTINGS["MNIST"]), images=MNISTSubset, **few, **budget)


@pytest.fixture(scope="package")
def run(setting, tmp_path_factory):
    """A folder with one repeat of a cell, and of the clean model whose trigger it takes."""
    folder = tmp_path_factory.mktemp("run")
    kept(RECONSTRUCTED, 0, setting, "unused", folder)
    return folder
