"""Normalisation as a layer."""

import pytest
import timm
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models import Normalize, NormalizedModel, create_model

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def linear_model(classes: int = 4) -> NormalizedModel:
    return NormalizedModel(Normalize(MEAN, STD), nn.Sequential(nn.Flatten(), nn.Linear(12, classes)))


def test_subtracts_the_mean_and_divides_by_the_standard_deviation_of_each_channel():
    z = Normalize([0.5, 0.0], [0.5, 2.0])(torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 2, 1, 2))
    assert z.flatten().tolist() == [1.0, -1.0, 0.5, 0.0]


def test_normalising_inside_the_model_equals_normalising_outside():
    torch.manual_seed(0)
    model = create_model("convnet12", num_classes=10, in_channels=3, image_size=(32, 32), mean=MEAN, std=STD).eval()
    x = torch.rand(3, 3, 32, 32)
    outside = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(model(x), model.net(outside))


def test_gradient_to_the_pixels_is_that_to_the_normalised_image_over_std():
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    weight = torch.randn(3, 4, 4)
    (Normalize(MEAN, STD)(x) * weight).sum().backward()
    torch.testing.assert_close(x.grad[0], weight / torch.tensor(STD).view(3, 1, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_float32_images_go_through_a_model_of_another_dtype(dtype):
    model = linear_model().to(dtype)
    x = torch.rand(2, 3, 2, 2, requires_grad=True)
    logits = model(x)
    logits.sum().backward()
    assert logits.dtype == dtype
    assert x.grad.dtype == torch.float32


def test_a_bfloat16_model_rounds_after_normalising_not_before():
    x = torch.full((1, 1, 1, 1), 0.501)  # bfloat16 has it as .5
    assert Normalize([0.5], [0.001]).bfloat16()(x).item() == pytest.approx(1.0, rel=0.01)


def test_autocast_leaves_the_normalisation_in_float32_and_casts_what_follows():
    model = linear_model()
    seen = []
    model.normalize.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.rand(2, 3, 2, 2).bfloat16())
    assert seen == [torch.float32]
    assert logits.dtype == torch.bfloat16


def test_figures_are_part_of_the_weights_but_are_not_trained():
    state = linear_model().state_dict()
    assert state["normalize.mean"].flatten().tolist() == pytest.approx(MEAN)
    assert state["normalize.std"].flatten().tolist() == pytest.approx(STD)
    assert not list(Normalize(MEAN, STD).parameters())


def test_figures_appear_in_print():
    assert repr(Normalize([0.4914], [0.247])) == "Normalize(mean=[0.4914], std=[0.247])"
    assert repr(Normalize([0.4914], [0.247]).to("meta")) == "Normalize(channels=1)"


def test_wrapper_has_the_methods_of_a_timm_model():
    torch.manual_seed(0)
    model = NormalizedModel(Normalize([0.1], [0.3]), timm.create_model("lenet")).eval()
    x = torch.rand(2, 1, 28, 28)
    features = model.forward_features(x)
    assert model.num_classes == 10
    torch.testing.assert_close(model.forward_head(features), model(x))
    torch.testing.assert_close(model.get_classifier()(model.forward_head(features, pre_logits=True)), model(x))
    model.reset_classifier(3)
    assert (model.num_classes, model(x).shape) == (3, (2, 3))


def test_images_of_another_number_of_channels_are_refused():
    with pytest.raises(InputError, match=r"takes images of 1 channels, got shape \(2, 3, 8, 8\)"):
        Normalize([0.5], [0.5])(torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5], [0.5, 0.5]), ([], []), ([0.5], [0.0]), ([0.5], [-1.0]), ([float("nan")], [1.0]), ([0.5], [float("inf")])],
)
def test_impossible_figures_are_refused(mean, std):
    with pytest.raises(InputError, match="mean"):
        Normalize(mean, std)
