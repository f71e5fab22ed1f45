"""LeNet-5 (LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998).

With ReLU and max pooling, as it has been trained since; 61,706 parameters for ten classes of 28 x 28 grey images.
"""

from torch import nn

from lightning_adv.models.backbone import Backbone, ImageSize, flat_features
from lightning_adv.models.registry import register

__all__ = ["lenet"]


@register
def lenet(*, num_classes: int = 10, in_chans: int = 1, img_size: ImageSize = 28, drop_rate: float = 0.0) -> Backbone:
    """LeNet-5: 5x5 convolutions of 6 and 16 channels, each pooled, then 120, 84 and ``num_classes`` units.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        img_size: height and width of the images, in pixels; at least 12.
        drop_rate: dropout after both hidden layers.
    """
    features = nn.Sequential(
        nn.Conv2d(in_chans, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
    )  # fmt: skip
    penultimate = nn.Sequential(
        nn.Flatten(),
        nn.Linear(flat_features(features, in_chans=in_chans, img_size=img_size), 120), nn.ReLU(), nn.Dropout(drop_rate),
        nn.Linear(120, 84), nn.ReLU(), nn.Dropout(drop_rate),
    )  # fmt: skip
    return Backbone(features, penultimate, num_features=84, num_classes=num_classes)
