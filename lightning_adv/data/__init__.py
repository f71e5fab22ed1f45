"""Image sets as LightningDataModules, with loaders that are exact over processes and resume in mid-epoch."""

from lightning_adv.data.arraydata import ArrayData
from lightning_adv.data.augmentation import Augmentation, CropFlip, CropShift, Cutout, Kornia
from lightning_adv.data.batch import ImageBatch
from lightning_adv.data.cifar import CIFAR10, CIFAR100
from lightning_adv.data.cleansed import CleansedDataModule
from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.faces import Faces
from lightning_adv.data.facts import DataFacts
from lightning_adv.data.gtsrb import GTSRB
from lightning_adv.data.imagefolder import ImageFolder
from lightning_adv.data.images import IndexedImages, InMemoryImages, LazyImages, ResidentImages
from lightning_adv.data.loader import ImageLoader
from lightning_adv.data.mixed import MixedDataModule
from lightning_adv.data.mixing import CutMix, Mixing, MixUp
from lightning_adv.data.mnist import MNIST, FashionMNIST, MNISTSubset
from lightning_adv.data.poisoned import PoisonedDataModule
from lightning_adv.data.purified import PurifiedDataModule
from lightning_adv.data.samplers import EvaluationBatches, MixedBatches, TrainBatches
from lightning_adv.pixels import float_images

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "GTSRB",
    "MNIST",
    "ArrayData",
    "Augmentation",
    "CleansedDataModule",
    "CropFlip",
    "CropShift",
    "CutMix",
    "Cutout",
    "DataFacts",
    "EvaluationBatches",
    "Faces",
    "FashionMNIST",
    "ImageBatch",
    "ImageDataModule",
    "ImageFolder",
    "ImageLoader",
    "InMemoryImages",
    "IndexedImages",
    "Kornia",
    "LazyImages",
    "MNISTSubset",
    "MixUp",
    "MixedBatches",
    "MixedDataModule",
    "Mixing",
    "PoisonedDataModule",
    "PurifiedDataModule",
    "ResidentImages",
    "Sources",
    "TrainBatches",
    "float_images",
]
