"""Weights that torchvision's own networks saved give timm's networks the same logits."""

import pytest
import timm
import torch
from timm.models.vgg import VGG
from torch import nn
from torchvision.models import VisionTransformer

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


@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
def test_weights_of_torchvisions_vgg_give_timms_network_the_same_logits(tmp_path):
    theirs, ours = Flat().eval(), VGG([4, "M"], num_classes=5).eval()
    torch.save({f"module.{name}": weight for name, weight in theirs.state_dict().items()}, tmp_path / "net.pth")
    load_weights(tmp_path / "net.pth", ours)
    x = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_a_network_of_other_names_is_told_whose_the_names_are(tmp_path):
    vit = VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
    torch.save(vit.state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match="torchvision's vision transformers: use backbone vit_base_patch16_224"):
        load_weights(tmp_path / "net.pth", timm.create_model("test_resnet", num_classes=5))
