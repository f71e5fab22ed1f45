"""What is said of a stroke is what it looks like."""

import numpy as np
import torch

from experiments.lgap.strokes import NAMES, Strokes, holes, leaning, width


def bar(across: int, shift: float = 0.0) -> np.ndarray:
    """A stroke from top to bottom that moves to the right by so many columns a row upwards."""
    image = np.zeros((28, 28))
    for row in range(4, 24):
        first = round(14 + shift * (14 - row))
        image[row, first : first + across] = 1
    return image


def ring(rings: int = 1) -> np.ndarray:
    """Squares of ink around ground, one above the other."""
    image = np.zeros((28, 28))
    for number in range(rings):
        top = 2 + 12 * number
        image[top : top + 12, 6:18] = 1
        image[top + 3 : top + 9, 9:15] = 0
    return image


def test_a_thicker_bar_is_wider_and_a_long_one_as_wide_as_it_is():
    assert width(bar(2)) < width(bar(4)) < width(bar(6))
    assert 1.5 < width(bar(2)) <= 2.5


def test_a_stroke_leans_by_the_columns_a_row():
    assert abs(leaning(bar(3))) < 1e-9
    for shift in (0.5, -0.5):
        assert abs(leaning(bar(3, shift)) - shift) < 0.02


def test_holes_are_what_ink_encloses():
    speck = bar(5)
    speck[10, 16] = 0
    assert [holes(each) for each in (bar(3), ring(), ring(2), speck)] == [0, 1, 2, 0]


def test_a_kind_is_named_by_thirds_of_the_images_that_are_known():
    known = [bar(across, shift) for across in (2, 4, 6) for shift in (-0.5, 0.0, 0.5)]
    images = torch.from_numpy(np.stack([*known, ring()])[:, None])
    kinds = Strokes.of(images[:-1])(images)
    assert NAMES[kinds[0]] == "thin left stroke with no holes"
    assert NAMES[kinds[4]] == "medium upright stroke with no holes"
    assert NAMES[kinds[8]] == "thick right stroke with no holes"
    assert NAMES[kinds[9]].endswith("with one holes")
    assert len(set(NAMES)) == len(NAMES) == 27
