"""Small-image stems of ImageNet networks."""

import pytest
import timm
import torch
from torch import nn

from lightning_adv.models.stem import shrink_stem


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
