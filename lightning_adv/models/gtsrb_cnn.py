"""The traffic sign network of Neural Cleanse (Wang et al., 2019): six convolutions and two dense layers.

571,723 parameters for 43 classes of 32 x 32 colour images; the paper trains it with Adam, 1e-3, for 10 epochs.
"""

from torch import nn

from lightning_adv.models.backbone import Backbone, ImageSize, flat_features
from lightning_adv.models.registry import register

__all__ = ["gtsrb_cnn"]


@register
def gtsrb_cnn(
    *,
    num_classes: int = 43,
    in_chans: int = 3,
    img_size: ImageSize = 32,
    drop_rate: float = 0.5,
    conv_drop_rate: float = 0.2,
) -> Backbone:
    """3x3 convolutions of 32, 32, 64, 64, 128, 128 channels, pooled in pairs, then 512 and ``num_classes`` units.

    The first convolution of a pair keeps the size of its input, the second does not (no padding).

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        img_size: height and width of the images, in pixels; at least 22.
        drop_rate: dropout after the hidden dense layer.
        conv_drop_rate: dropout (of single activations, not of channels) after each pooling.
    """
    features = nn.Sequential()
    channels = in_chans
    for width in (32, 64, 128):
        features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU()])
        features.extend([nn.MaxPool2d(2), nn.Dropout(conv_drop_rate)])
        channels = width
    penultimate = nn.Sequential(
        nn.Flatten(),
        nn.Linear(flat_features(features, in_chans=in_chans, img_size=img_size), 512),
        nn.ReLU(),
        nn.Dropout(drop_rate),
    )
    return Backbone(features, penultimate, num_features=512, num_classes=num_classes)
