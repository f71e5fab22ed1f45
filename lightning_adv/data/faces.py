"""Face recognition in the size of the DeepID experiments on YouTube Faces (Wolf et al., 2011; Sun et al., 2014)."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from lightning_adv.data.augmentation import CropFlip
from lightning_adv.data.checks import count_classes
from lightning_adv.data.datamodule import ImageDataModule, Sources
from lightning_adv.data.files import npz_shapes, read_npz, require
from lightning_adv.data.images import InMemoryImages
from lightning_adv.data.seeds import derive_seed
from lightning_adv.data.splits import number_of_images, stratified_cuts
from lightning_adv.errors import InputError
from lightning_adv.pictures import read_picture

__all__ = ["Faces"]

_VARIANTS = 1  # the stream of random numbers they are drawn from
_PICTURES = {".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".bmp"}


class Faces(ImageDataModule):
    """Faces of known people, resized to 55 x 47 (height, width), one class a person.

    Reads an npz file with ``x`` (uint8, [N, H, W] or [N, H, W, 3]) and ``y`` (identities from 0), or a folder with one
    folder of pictures a person (pictures may lie deeper, as in YouTube Faces: person/video/frame). Every split holds
    its share of every person's pictures; the test images are the same whatever ``seed``.

    Args:
        path: npz file or folder, relative to ``root``.
        test_size: test images, as a number or a share of all.
        channels: 1 for grey, 3 for colour; default what the npz file holds, and 3 for a folder.
        variants: of each training image, itself and crops shifted by up to 4 pixels, some of them mirrored, with .8 to
            1.2 times its brightness, made once and before any poisoning: a backdoor is learnt from thousands of images,
            and the ORL faces are 400.
        common: see ``ImageDataModule``.
    """

    image_size = (55, 47)
    default_val_size = 0.125
    default_calibration_size = 0.125

    def __init__(
        self,
        path: str = "orl_faces.npz",
        test_size: int | float = 0.2,
        channels: Literal[1, 3] | None = None,
        variants: int = 1,
        **common: object,
    ) -> None:
        super().__init__(**common)
        self.path = require(
            Path(self.root) / path,
            "an npz file with x and y, or a folder of one folder a person",
            "set path (relative to root) to it",
        )
        if variants < 1:
            raise InputError(f"variants of Faces must be at least 1, got {variants}")
        self.test_size, self.variants = test_size, variants
        self.class_names = self._people()
        self.num_classes = len(self.class_names)
        self.in_channels = channels or self._stored_channels()
        self.mean = (0.5,) * self.in_channels
        self.std = (0.25,) * self.in_channels

    def load(self) -> Sources:
        """Read and resize all pictures."""
        pixels, labels = self._read_folder() if self.path.is_dir() else self._read_npz()
        count = number_of_images(self.test_size, len(labels), "test_size")
        test, train = stratified_cuts(labels, [count], seed=0)
        return Sources(InMemoryImages(pixels, labels, train), InMemoryImages(pixels, labels, test))

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the data, then vary the training images; once whatever the stage."""
        if self.datasets:
            return
        super().setup(stage)
        if self.variants > 1:
            train = self.datasets["train"]
            self.datasets["train"] = InMemoryImages(self._varied(train.images), train.labels.repeat(self.variants))

    def _varied(self, images: torch.Tensor) -> torch.Tensor:
        """The images [N, C, H, W] and their variants, N at a time: uint8 [variants N, C, H, W]."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, _VARIANTS))
        crop, found = CropFlip(padding=4, padding_mode="reflect"), [images]
        for _ in range(self.variants - 1):
            bright = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=generator)
            varied = crop(images / 255, generator) * bright
            found.append((varied.clamp(0, 1) * 255).round().to(torch.uint8))
        return torch.cat(found)

    def _people(self) -> list[str]:
        if self.path.is_dir():
            people = sorted(folder.name for folder in self.path.iterdir() if folder.is_dir())
            if not people:
                raise InputError(f"{self.path} holds no folders; expected one folder of pictures a person")
            return people
        (labels,) = read_npz(self.path, ["y"])
        return [str(person) for person in range(count_classes(torch.from_numpy(labels.astype("int64")), self.path))]

    def _stored_channels(self) -> int:
        if self.path.is_dir():
            return 3
        shape = npz_shapes(self.path).get("x", ())
        if len(shape) != 3 and shape[3:] not in [(1,), (3,)]:
            raise InputError(f"{self.path}: x must have the shape [N, H, W] or [N, H, W, 3], got {list(shape)}")
        return 1 if len(shape) == 3 else shape[3]

    def _read_npz(self) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, labels = read_npz(self.path, ["x", "y"])
        if pixels.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise InputError(f"{self.path}: x must be uint8 and y integers, got {pixels.dtype} and {labels.dtype}")
        if len(pixels) != len(labels):
            raise InputError(f"{self.path}: x holds {len(pixels)} pictures, y {len(labels)} identities")
        pictures = (Image.fromarray(picture.squeeze()).convert(self._mode) for picture in pixels)
        faces = [self._resized(picture) for picture in pictures]
        return torch.stack(faces), torch.from_numpy(labels.astype("int64"))

    def _read_folder(self) -> tuple[torch.Tensor, torch.Tensor]:
        faces, labels = [], []
        for label, person in enumerate(self.class_names):
            for path in sorted((self.path / person).rglob("*")):
                if path.suffix.lower() not in _PICTURES:
                    continue
                faces.append(self._resized(read_picture(path, self._mode)))
                labels.append(label)
        if not faces:
            raise InputError(f"{self.path} holds no pictures ({', '.join(sorted(_PICTURES))}) in the folders of people")
        return torch.stack(faces), torch.tensor(labels)

    @property
    def _mode(self) -> Literal["L", "RGB"]:
        return "L" if self.in_channels == 1 else "RGB"

    def _resized(self, picture: Image.Image) -> torch.Tensor:
        height, width = self.image_size
        pixels = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels).reshape(height, width, self.in_channels).permute(2, 0, 1).contiguous()
