"""The 12-layer CIFAR-10 network of the detection papers: six convolutions, three poolings, three dense layers.

Feinman et al., Detecting Adversarial Samples from Artifacts (2017), without batch normalisation; Ma et al.,
Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality (2018), with it after each ReLU.
"""

from torch import nn

from lightning_adv.models.backbone import Backbone, ImageSize, flat_features
from lightning_adv.models.registry import register

__all__ = ["convnet12"]


@register
def convnet12(
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: ImageSize = 32,
    batch_norm: bool = True,
    drop_rate: float = 0.5,
) -> Backbone:
    """3x3 convolutions of 32, 32, 64, 64, 128, 128 channels, pooled in pairs, then 1024, 512 and ``num_classes`` units.

    Both papers also put an L2 penalty of .01 on the two wide dense layers, which is the optimiser's business here.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        img_size: height and width of the images, in pixels; at least 8.
        batch_norm: normalise after each ReLU as Ma et al.; false for the network of Feinman et al.
        drop_rate: dropout before and after each wide dense layer.
    """
    features = nn.Sequential()
    channels = in_chans
    for width in (32, 64, 128):
        for _ in range(2):
            features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()])
            features.extend([nn.BatchNorm2d(width)] if batch_norm else [])
            channels = width
        features.append(nn.MaxPool2d(2))

    units = flat_features(features, in_chans=in_chans, img_size=img_size)
    penultimate = nn.Sequential(nn.Flatten(), nn.Dropout(drop_rate))
    for width in (1024, 512):
        penultimate.extend([nn.Linear(units, width), nn.ReLU()])
        penultimate.extend([nn.BatchNorm1d(width)] if batch_norm else [])
        penultimate.append(nn.Dropout(drop_rate))
        units = width
    return Backbone(features, penultimate, num_features=units, num_classes=num_classes)
