"""DeepID (Sun, Wang and Tang, Deep Learning Face Representation from Predicting 10,000 Classes, 2014).

The face network of Neural Cleanse (Wang et al., 2019) for YouTube Faces at 55 x 47 pixels; 601,643 parameters for its
1,283 people. The 160 units of the last hidden layer see both the third convolution and the fourth.
"""

import torch
from torch import Tensor, nn

from lightning_adv.models.backbone import Backbone, ImageSize, flat_features
from lightning_adv.models.registry import register

__all__ = ["deepid"]


class _TwoScales(nn.Module):
    """relu(W3 conv3 + W4 conv4): the DeepID layer."""

    def __init__(self, conv3_units: int, conv4: nn.Module, conv4_units: int, width: int, drop_rate: float) -> None:
        super().__init__()
        self.conv4 = conv4
        self.from_conv3 = nn.Linear(conv3_units, width)
        self.from_conv4 = nn.Linear(conv4_units, width)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.from_conv3(x.flatten(1)) + self.from_conv4(self.conv4(x).flatten(1))
        return self.dropout(torch.relu(hidden))


@register
def deepid(
    *,
    num_classes: int = 1283,
    in_chans: int = 3,
    img_size: ImageSize = (55, 47),
    drop_rate: float = 0.0,
) -> Backbone:
    """Convolutions of 20, 40, 60 channels, each pooled, a fourth of 80, then 160 and ``num_classes`` units.

    Args:
        num_classes: number of logits (people).
        in_chans: channels of the images.
        img_size: height and width of the images, in pixels; at least 31.
        drop_rate: dropout after the hidden layer.
    """
    features = nn.Sequential(
        nn.Conv2d(in_chans, 20, 4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 40, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(40, 60, 3), nn.ReLU(), nn.MaxPool2d(2),
    )  # fmt: skip
    conv4 = nn.Sequential(nn.Conv2d(60, 80, 2), nn.ReLU())
    conv3_units = flat_features(features, in_chans=in_chans, img_size=img_size)
    conv4_units = flat_features(nn.Sequential(features, conv4), in_chans=in_chans, img_size=img_size)
    penultimate = _TwoScales(conv3_units, conv4, conv4_units, 160, drop_rate)
    return Backbone(features, penultimate, num_features=160, num_classes=num_classes)
