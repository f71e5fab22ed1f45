"""Published layouts: weights under the field's names give the published network's logits, or are refused."""

import copy
import functools
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.open_models.published import CLASSES, IMAGES, MEAN, NETWORKS, STD, published
from lightning_adv.errors import InputError
from lightning_adv.models import NormalizedModel, create_model, load_weights


@functools.cache
def _network(name: str) -> NormalizedModel:
    published_as = NETWORKS[name]
    torch.manual_seed(0)
    return create_model(
        published_as.backbone,
        num_classes=CLASSES,
        in_channels=3,
        image_size=(16, 16),
        mean=MEAN,
        std=STD,
        backbone_options=published_as.options,
    )


def network(name: str) -> NormalizedModel:
    return copy.deepcopy(_network(name))


def load(path: Path, model: NormalizedModel, **options: str) -> list[str]:
    """Load, and give what was noted on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_weights(path, model, **options)
    return [str(warning.message) for warning in caught]


def assert_same_logits(model: NormalizedModel, logits: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(IMAGES), logits, atol=1e-5, rtol=0)


def test_two_networks_of_the_same_names_differ():
    wong, cifar = network("preact_wong"), network("preact_pytorch_cifar")
    assert not torch.allclose(published("preact_wong")[1], published("preact_pytorch_cifar")[1], atol=0.1)
    assert wong.state_dict().keys() != cifar.state_dict().keys()


def test_which_of_two_networks_of_the_same_names_is_asked_for():
    with pytest.raises(InputError, match="give raw_shortcut, true for those of Wong"):
        create_model(
            "preact_resnet18",
            num_classes=2,
            in_channels=3,
            image_size=(8, 8),
            backbone_options={"width": 2, "final_norm": False},
        )


def test_weights_that_are_refused_leave_the_model_as_it_was_and_are_not_offered_by_their_order(tmp_path):
    torch.save(published("preact_rice")[0], tmp_path / "weights.pt")
    model = network("preact_wong")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="use backbone preact_resnet18") as refusal:
        load_weights(tmp_path / "weights.pt", model)
    assert "order" not in str(refusal.value)
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


def test_weights_of_one_project_network_do_not_load_into_its_variant(tmp_path):
    torch.save(network("preact_wong").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"shortcut.*are unknown to the model \(.*raw_shortcut") as refusal:
        load_weights(tmp_path / "weights.pt", network("preact_pytorch_cifar"))
    assert "order" not in str(refusal.value)


def test_what_no_image_passes_is_left_out_and_counted(tmp_path):
    state, logits = published("wide_resnet_28")
    unused = {f"sub_{key}": weight for key, weight in state.items() if key.startswith("block1.")}
    unused |= {"total_ops": torch.zeros(1), "fc.total_params": torch.zeros(1)}
    torch.save({f"module.{key}": weight for key, weight in (state | unused).items()}, tmp_path / "weights.pt")
    model = network("wide_resnet_28")
    (note,) = load(tmp_path / "weights.pt", model)
    assert f"left out {len(unused)} entries that no image passes" in note
    assert "\n" not in note
    assert_same_logits(model, logits)


def test_an_entry_that_stands_for_nothing_known_is_refused(tmp_path):
    torch.save(published("wide_resnet_28")[0] | {"block4.weight": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"1 are unknown to the model \(net.block4.weight\)"):
        load_weights(tmp_path / "weights.pt", network("wide_resnet_28"))


def test_the_statistics_of_a_published_file_must_be_the_models(tmp_path):
    state = published("dm_preact_resnet")[0] | {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}
    torch.save(state, tmp_path / "weights.pt")
    assert load(tmp_path / "weights.pt", network("dm_preact_resnet")) == []
    other = network("dm_preact_resnet")
    other.normalize.mean.fill_(0.5)
    with pytest.raises(InputError, match=r"trained with mean \[0.49.*mean, std\), the model has mean \[0.5"):
        load_weights(tmp_path / "weights.pt", other)
    with pytest.raises(InputError, match=r"the file normalises images .* and the model does not"):
        load_weights(tmp_path / "weights.pt", other.net)


def test_a_set_of_weights_that_is_not_there_is_refused(tmp_path):
    torch.save({"model": published("preact_rice")[0]}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"weights.pt holds nothing called 'ema': it has conv1.weight"):
        load_weights(tmp_path / "weights.pt", network("preact_rice"), which="ema")


def test_weights_of_other_shapes_are_not_taken_in_their_order(tmp_path):
    model = network("resnet_pytorch_cifar")
    weights = published("resnet_pytorch_cifar")[0].items()
    state = {f"part{i}.{key.rpartition('.')[2]}": weight for i, (key, weight) in enumerate(weights)}
    first = next(iter(state))
    torch.save({first: state[first].flatten()} | {k: v for k, v in state.items() if k != first}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="its weights have other shapes than the model's in the same order"):
        load_weights(tmp_path / "other.pt", model, match="order")
    with pytest.raises(InputError, match=r"is it the weights of another backbone\?$"):
        load_weights(tmp_path / "other.pt", model)
