"""Weights that torchvision's own networks saved give timm's networks the same logits."""

import warnings
from functools import partial

import pytest
import timm
import torch
from timm.models.vgg import VGG
from torch import nn
from torchvision.models import VisionTransformer, efficientnet_b0
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from lightning_adv.errors import InputError
from lightning_adv.models import load_weights


class Flat(nn.Module):
    """As torchvision's VGG networks, with one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            *(nn.Linear(4 * 49, 4096), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 5)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
CONVNEXT = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 2), CNBlockConfig(32, None, 1)]
PAIRS = {
    "vit": (
        lambda: VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5),
        partial(timm.create_model, "vit_base_patch16_224", num_classes=5, **VIT),
        32,
    ),
    "convnext": (
        lambda: ConvNeXt(CONVNEXT, num_classes=5),
        partial(timm.create_model, "convnext_tiny", num_classes=5, depths=(2, 1, 2, 1), dims=(8, 16, 24, 32)),
        64,
    ),
    "vgg": (Flat, lambda: VGG([4, "M"], num_classes=5), 14),
}


def moved(net: nn.Module) -> nn.Module:
    """With every parameter away from where it is initialised alike, such as zeros."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.05 * torch.rand(weight.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
def test_weights_of_torchvision_give_timms_network_the_same_logits(kind, prefix, tmp_path):
    theirs, ours, side = PAIRS[kind]
    theirs, ours = moved(theirs()), ours().eval()
    torch.save({prefix + name: weight for name, weight in theirs.state_dict().items()}, tmp_path / "net.pth")
    load_weights(tmp_path / "net.pth", ours)
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_a_network_of_other_names_is_told_whose_the_names_are(tmp_path):
    torch.save(PAIRS["vit"][0]().state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match="torchvision's vision transformers: use backbone vit_base_patch16_224"):
        load_weights(tmp_path / "net.pth", timm.create_model("test_resnet", num_classes=5))


def test_an_efficientnet_of_torchvision_is_offered_by_its_order_and_gives_the_same_logits(tmp_path):
    theirs, ours = moved(efficientnet_b0(num_classes=5)), timm.create_model("efficientnet_b0", num_classes=5).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"--model\.match=order"):
        load_weights(tmp_path / "net.pth", ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_weights(tmp_path / "net.pth", ours, match="order")
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-4)
