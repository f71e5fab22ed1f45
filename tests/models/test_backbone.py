"""The project's own networks: sizes as published, shapes, gradients, independence of batch mates."""

import pytest
import timm
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models import list_models

SMALL = {
    "preact_resnet18": {"width": 8},
    "resnet18_cifar": {"width": 8},
    "dm_preact_resnet18": {"width": 8},
    "dm_wide_resnet_28_10": {"widening": 1},
    "densenet_cifar": {"depth": 22, "growth": 4},
}
WIDE = ("wide_resnet28_10", "wide_resnet34_10", "dm_wide_resnet_70_16")
AFFORDABLE = sorted(set(list_models()) - set(WIDE))
TAKES_IMG_SIZE = {"lenet", "mnist_cnn", "convnet12", "gtsrb_cnn", "deepid"}


def parameters(name: str, **options: int | bool) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in timm.create_model(name, **options).parameters())


def small(name: str, *, in_chans: int = 3, size: tuple[int, int] = (40, 36)) -> nn.Module:
    options = {"img_size": size} if name in TAKES_IMG_SIZE else {}
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=7, in_chans=in_chans, **options, **SMALL.get(name, {}))


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("lenet", {}, 61_706),  # LeCun et al. (1998), fully connected second convolution
        ("mnist_cnn", {}, 166_406),  # Wong and Kolter (2018)
        (
            "mnist_cnn",
            {"width": 32, "kernel_size": 5, "hidden": 1024, "pooling": True},
            3_274_634,
        ),  # Madry et al. (2018)
        ("mnist_cnn", {"batch_norm": True}, 166_406 + 2 * (16 + 32)),  # a scale and a shift for every map
        ("convnet12", {"batch_norm": False}, 2_915_114),  # Feinman et al. (2017)
        ("convnet12", {}, 2_919_082),  # Ma et al. (2018)
        ("gtsrb_cnn", {}, 571_723),  # Wang et al. (2019)
        ("deepid", {}, 601_643),  # Wang et al. (2019)
        ("preact_resnet18", {}, 11_172_170),  # 11.17 M
        ("wide_resnet28_10", {}, 36_479_194),  # 36.5 M, Zagoruyko and Komodakis (2016)
        ("wide_resnet34_10", {}, 46_160_474),  # 46.2 M
        ("resnet18_cifar", {}, 11_173_962),  # 11.17 M
        ("dm_wide_resnet_28_10", {}, 36_479_194),  # as wide_resnet28_10
        ("dm_wide_resnet_70_16", {}, 266_796_506),  # 267 M, Gowal et al. (2020)
        ("densenet_cifar", {}, 769_162),  # .77 M, Huang et al. (2017)
    ],
)
def test_has_as_many_parameters_as_published(name, options, published):
    assert parameters(name, **options) == published


@pytest.mark.parametrize("name", AFFORDABLE)
@pytest.mark.parametrize(("in_chans", "size"), [(1, (40, 36)), (3, (33, 47)), (4, (64, 64))])
def test_gives_one_logit_a_class_for_any_channels_and_size(name, in_chans, size):
    model = small(name, in_chans=in_chans, size=size).eval()
    assert model(torch.rand(2, in_chans, *size)).shape == (2, 7)


@pytest.mark.parametrize("name", WIDE)
def test_wide_resnets_give_one_logit_a_class(name):
    with torch.device("meta"):
        assert timm.create_model(name, num_classes=100, in_chans=1)(torch.rand(2, 1, 28, 28)).shape == (2, 100)


@pytest.mark.parametrize("name", AFFORDABLE)
def test_gradient_reaches_every_channel_of_the_image_and_every_weight(name):
    model = small(name)
    x = torch.rand(4, 3, 40, 36, requires_grad=True)
    model(x).logsumexp(1).sum().backward()
    assert (x.grad.abs().amax((2, 3)) > 0).all()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("name", AFFORDABLE)
def test_activations_seen_by_hooks_are_never_overwritten(name):
    model = small(name).eval()
    seen = []

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        seen.append((output, output.clone()))

    for module in model.modules():
        module.register_forward_hook(keep)
    with torch.no_grad():
        model(torch.rand(2, 3, 40, 36))
    assert all(torch.equal(output, copy) for output, copy in seen)


@pytest.mark.parametrize("name", AFFORDABLE)
def test_logits_in_eval_mode_do_not_depend_on_batch_mates(name):
    model = small(name).double().eval()
    x = torch.rand(3, 3, 40, 36, dtype=torch.float64)
    alone = torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", AFFORDABLE)
def test_parts_make_up_the_whole(name):
    model = small(name).eval()
    features = model.forward_features(torch.ones(2, 3, 40, 36))
    hidden = model.forward_head(features, pre_logits=True)
    assert hidden.shape == (2, model.num_features)
    torch.testing.assert_close(model.get_classifier()(hidden), model(torch.ones(2, 3, 40, 36)))
    torch.testing.assert_close(model.forward_head(features), model(torch.ones(2, 3, 40, 36)))


@pytest.mark.parametrize("name", AFFORDABLE)
def test_a_reset_classifier_has_the_new_number_of_logits(name):
    model = small(name).eval()
    model.reset_classifier(3)
    assert model.num_classes == 3
    assert model(torch.rand(1, 3, 40, 36)).shape == (1, 3)
    model.reset_classifier(0)
    assert model(torch.rand(1, 3, 40, 36)).shape == (1, model.num_features)


@pytest.mark.parametrize("name", AFFORDABLE)
def test_dropout_drops_single_activations_and_only_in_training(name):
    model = timm.create_model(name, drop_rate=0.5, **SMALL.get(name, {}))
    dropouts = [module for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    assert any(dropout.p == 0.5 for dropout in dropouts)
    assert all(type(dropout) is nn.Dropout for dropout in dropouts)


def test_gtsrb_cnn_drops_a_fifth_after_each_pooling_and_half_before_the_classifier():
    dropouts = [module.p for module in timm.create_model("gtsrb_cnn").modules() if isinstance(module, nn.Dropout)]
    assert dropouts == [0.2, 0.2, 0.2, 0.5]


def test_preact_shortcut_adds_the_unactivated_input_where_the_shape_stays():
    block = timm.create_model("preact_resnet18", width=4).features[1][0].eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_densenet_keeps_the_features_of_earlier_layers():
    layer = timm.create_model("densenet_cifar", depth=10, growth=4).features[1].eval()
    x = torch.randn(2, 8, 6, 6)
    assert layer(x).shape == (2, 12, 6, 6)
    torch.testing.assert_close(layer(x)[:, :8], x)


@pytest.mark.parametrize(
    ("name", "side"), [("lenet", 11), ("mnist_cnn", 3), ("convnet12", 7), ("gtsrb_cnn", 21), ("deepid", 30)]
)
def test_images_that_vanish_on_the_way_are_refused_and_one_pixel_more_is_enough(name, side):
    with pytest.raises(InputError, match=f"{name}: images of {side} x {side} pixels are too small"):
        timm.create_model(name, img_size=side)
    model = timm.create_model(name, in_chans=1, img_size=side + 1).eval()
    assert model(torch.rand(1, 1, side + 1, side + 1)).isfinite().all()
