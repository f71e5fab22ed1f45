"""Picture files as 8-bit pixels: one rule for every place that opens one.

- A picture stands as its EXIF orientation says.
- Grey, colour, palette, CMYK and YCbCr pictures become grey or RGB; grey ones of 16 bits are divided by 257, so that
  white stays white and grey grey.
- Transparent pixels lie over white, as a viewer shows them.
- Of several frames the first is the picture.
- Pixels of 32 bits, integers or floats, are refused: nothing in the file says which value is white.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from lightning_adv.errors import InputError

__all__ = ["as_8_bit", "read_picture"]

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
WHOLE_RANGE = 257
"""65535 / 255."""

CANNOT_READ = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are no pictures, or broken ones."""


def read_picture(path: Path | str, mode: Literal["L", "RGB"] = "RGB") -> Image.Image:
    """The picture in a file, upright, as 8-bit grey ("L") or colour ("RGB").

    Args:
        path: of the file.
        mode: "L" or "RGB".

    Raises:
        InputError: a file that is no picture, a broken one, or one of 32-bit pixels, named.
    """
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            if picture.format == "PPM" and upright.mode == "I":  # Pillow reads 16 bits into 32
                upright = Image.fromarray(np.asarray(upright).astype(np.uint16))
            return as_8_bit(upright, mode)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except CANNOT_READ as error:
        raise InputError(f"cannot read the picture {path}: {error}; replace or remove the file") from error


def as_8_bit(picture: Image.Image, mode: Literal["L", "RGB"] = "RGB") -> Image.Image:
    """A picture of any kind of pixels as 8-bit grey or colour.

    Raises:
        InputError: pixels of 32 bits.

    Example:
        >>> as_8_bit(Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16)), "L").tobytes()
        b'\\x00\\x80\\xff'
    """
    if picture.mode in SIXTEEN_BITS:
        levels = np.asarray(picture).astype(np.float32) / WHOLE_RANGE
        picture = Image.fromarray(levels.round().astype(np.uint8))
    if picture.mode.startswith(("I", "F")):
        raise InputError(
            f"pixels of 32 bits (mode {picture.mode}) do not say which value is white; save the picture with 8 or 16"
        )
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), coloured)
    return picture.convert(mode)
