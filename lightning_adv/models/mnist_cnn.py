"""Two convolutions and two dense layers: the MNIST network of the robustness literature.

The default is the small network of Wong and Kolter (Provable Defenses, 2018; 166,406 parameters): strided 4x4
convolutions, which cost a CPU about a third of pooled ones. That of Madry et al. (2018; 3,274,634 parameters) is
``width=32, kernel_size=5, hidden=1024, pooling=True``.
"""

from torch import nn

from lightning_adv.models.backbone import Backbone, ImageSize, flat_features
from lightning_adv.models.registry import register

__all__ = ["mnist_cnn"]


@register
def mnist_cnn(
    *,
    num_classes: int = 10,
    in_chans: int = 1,
    img_size: ImageSize = 28,
    width: int = 16,
    hidden: int = 100,
    kernel_size: int = 4,
    pooling: bool = False,
    drop_rate: float = 0.0,
    batch_norm: bool = False,
) -> Backbone:
    """Convolutions of ``width`` and ``2 * width`` channels that halve the image, then ``hidden`` and the class units.

    Args:
        num_classes: number of logits.
        in_chans: channels of the images.
        img_size: height and width of the images, in pixels; at least 4.
        width: channels of the first convolution.
        hidden: units of the hidden dense layer.
        kernel_size: side of both kernels.
        pooling: halve by max pooling after each convolution instead of by its stride.
        drop_rate: dropout after the hidden layer.
        batch_norm: normalise the maps of each convolution.
    """
    features = nn.Sequential()
    channels = in_chans
    for out in (width, 2 * width):
        stride = 1 if pooling else 2
        features.append(nn.Conv2d(channels, out, kernel_size, stride=stride, padding=(kernel_size - 1) // 2))
        features.extend([nn.BatchNorm2d(out), nn.ReLU()] if batch_norm else [nn.ReLU()])
        features.extend([nn.MaxPool2d(2)] if pooling else [])
        channels = out
    penultimate = nn.Sequential(
        nn.Flatten(),
        nn.Linear(flat_features(features, in_chans=in_chans, img_size=img_size), hidden),
        nn.ReLU(),
        nn.Dropout(drop_rate),
    )
    return Backbone(features, penultimate, num_features=hidden, num_classes=num_classes)
