"""Small-image stems of ImageNet networks."""

import pytest
import timm
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.models import create_model
from lightning_adv.models.stem import put_conv_stem, shrink_stem


@pytest.mark.parametrize("name", ["resnet18", "resnet26d", "seresnet18", "resnetv2_18", "densenet121"])
def test_the_stem_keeps_the_resolution_so_that_features_are_four_times_finer(name):
    with torch.device("meta"):
        net, x = timm.create_model(name, num_classes=10).eval(), torch.empty(2, 3, 32, 32)
        before = net.forward_features(x).shape
        assert shrink_stem(net)
        assert net.forward_features(x).shape == (*before[:2], 4, 4)
        assert before[2:] == (1, 1)
        assert net(x).shape == (2, 10)


def test_a_resnet_gets_the_3x3_convolution_of_its_cifar_variant():
    net = timm.create_model("resnet18", in_chans=1)
    shrink_stem(net)
    assert (net.conv1.in_channels, net.conv1.kernel_size, net.conv1.stride) == (1, (3, 3), (1, 1))
    assert net.conv1.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.1)  # He et al., fan-out
    assert isinstance(net.maxpool, nn.Identity)


def test_a_3x3_convolution_keeps_its_weights():
    net = timm.create_model("test_resnet")
    before = net.conv1[0].weight.clone()
    assert shrink_stem(net)
    assert torch.equal(net.conv1[0].weight, before)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_100", "resnetv2_50x1_bit", "lenet"])
def test_a_network_without_such_a_stem_is_left_alone(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    modules = {key: id(module) for key, module in net.named_modules()}
    assert not shrink_stem(net)
    assert {key: id(module) for key, module in net.named_modules()} == modules


@pytest.mark.parametrize(
    ("name", "prefix", "widths"),
    [
        ("convnext_tiny", "stem.stem", {0: (48, 3), 3: (96, 48)}),
        ("convnext_base", "stem.stem", {0: (64, 3), 3: (96, 64), 6: (128, 96)}),
        (
            "deit_small_patch16_224",
            "patch_embed.proj.stem",
            {0: (48, 3), 3: (96, 48), 6: (192, 96), 9: (384, 192), 12: (384, 384)},
        ),
        (
            "vit_base_patch16_224",
            "patch_embed.proj.stem",
            {0: (48, 3), 3: (96, 48), 6: (192, 96), 9: (384, 192), 12: (768, 384)},
        ),
    ],
)
def test_convolutions_in_place_of_patches_have_the_shapes_and_names_of_the_published_ones(name, prefix, widths):
    with torch.device("meta"):
        net, x = timm.create_model(name).eval(), torch.empty(2, 3, 224, 224)
        before = net.forward_features(x).shape
        assert put_conv_stem(net)
        assert net.forward_features(x).shape == before
    weights = {key: value for key, value in net.state_dict().items() if key.startswith(prefix)}
    convolutions = {key: tuple(value.shape[:2]) for key, value in weights.items() if value.dim() == 4}
    assert convolutions == {f"{prefix}.{place}.weight": shape for place, shape in widths.items()}
    norms = {f"{prefix}.{place + 1}.weight" for place in widths if f"{prefix}.{place + 1}.weight" in weights}
    assert len(norms) == len(widths) - (12 in widths)


def test_a_network_with_convolutions_in_place_of_patches_is_built_by_an_option_and_others_refuse_it():
    options = {"num_classes": 3, "in_channels": 1, "image_size": (32, 32)}
    model = create_model("convnext_atto", **options, backbone_options={"conv_stem": True})
    assert model.net.stem.stem[0].weight.shape == (20, 1, 3, 3)
    plain = create_model("convnext_atto", **options, backbone_options={"conv_stem": False})
    assert plain.net.stem[0].stride == (4, 4)
    with pytest.raises(InputError, match="conv_stem: resnet18 is no ConvNeXt"):
        create_model("resnet18", **options, backbone_options={"conv_stem": True})
