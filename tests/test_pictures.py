"""The one rule by which picture files become pixels."""

import numpy as np
import pytest
from PIL import Image

from lightning_adv.backdoors import Blend
from lightning_adv.errors import InputError
from lightning_adv.pictures import read_picture

GREY = np.linspace(0, 255, 64).round().reshape(8, 8)


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bits_keep_their_share_of_white(tmp_path, suffix):
    path = saved(tmp_path / f"deep.{suffix}", Image.fromarray((GREY * 257).astype(np.uint16)))
    for mode in ("L", "RGB"):
        pixels = np.asarray(read_picture(path, mode)).reshape(8, 8, -1)
        assert (pixels == GREY[..., None]).all()


@pytest.mark.parametrize(("mode", "value"), [("I", 70_000), ("F", 0.5)])
def test_thirty_two_bits_are_refused_in_one_line_with_the_file(tmp_path, mode, value):
    path = saved(tmp_path / "deep.tiff", Image.new(mode, (4, 4), value))
    with pytest.raises(InputError, match=rf"^[^\n]*deep\.tiff: pixels of 32 bits \(mode {mode}\)[^\n]*8 or 16$"):
        read_picture(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_orientation_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", Image.fromarray(GREY.astype(np.uint8)), exif=exif)
    upright = {
        1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1],
        5: GREY.T, 6: GREY[::-1].T, 7: GREY[::-1, ::-1].T, 8: GREY.T[::-1],
    }  # fmt: skip
    assert (np.asarray(read_picture(path, "L")) == upright[orientation]).all()


def test_transparent_pixels_lie_over_white(tmp_path):
    half = saved(tmp_path / "half.png", Image.new("RGBA", (2, 2), (255, 0, 0, 51)))
    assert read_picture(half).getpixel((0, 0)) == (255, 204, 204)
    grey = saved(tmp_path / "grey.png", Image.new("LA", (2, 2), (0, 0)))
    assert read_picture(grey, "L").getpixel((0, 0)) == 255
    palette = Image.new("P", (2, 2))
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((1, 1), 1)
    path = saved(tmp_path / "palette.png", palette, transparency=0)
    assert [read_picture(path).getpixel((i, i)) for i in range(2)] == [(255, 255, 255), (200, 0, 0)]


def test_ink_and_palettes_are_shown_not_their_numbers(tmp_path):
    ink = saved(tmp_path / "ink.jpg", Image.new("CMYK", (8, 8), (0, 0, 0, 0)), quality=100)
    assert read_picture(ink).getpixel((3, 3)) == (255, 255, 255)
    two = saved(tmp_path / "two.png", Image.new("1", (2, 2), 1))
    assert read_picture(two, "L").getpixel((0, 0)) == 255


def test_of_several_frames_the_first_is_the_picture(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "moving.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert read_picture(path).getpixel((0, 0)) == (255, 0, 0)


def test_what_is_no_picture_is_refused_in_one_line_with_the_file(tmp_path):
    path = saved(tmp_path / "cut.png", Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)))
    path.write_bytes(path.read_bytes()[:900])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("cut.png", "text.png", "none.png"):
        with pytest.raises(InputError, match=rf"^cannot read the picture [^\n]*{name}[^\n]*$"):
            read_picture(tmp_path / name)


def test_a_picture_to_blend_in_follows_the_rule(tmp_path):
    path = saved(tmp_path / "deep.png", Image.fromarray(np.full((4, 4), 32896, np.uint16)))
    assert Blend(0.5, str(path)).mask_and_pattern((1, 2, 2))[1].unique().tolist() == pytest.approx([128 / 255])
