"""What fooling images leave in the report."""

import pytest
import torch

from lightning_adv.fooling import FoolingSet
from lightning_adv.results.fooling import FoolingResult


def found(*confidences: float) -> FoolingSet:
    sure = torch.tensor(confidences)
    images = torch.rand(len(sure), 1, 5, 5, generator=torch.Generator().manual_seed(0))
    return FoolingSet(images, torch.arange(len(sure)), sure, [(0, 0.1), (1, 0.995), (2, float(sure.median()))])


def result() -> FoolingResult:
    sets = {"gradient": found(0.999, 0.998, 0.5), "direct": found(0.2, 0.3, 0.4)}
    return FoolingResult(title="Fooling", found=sets, class_names=["a", "b", "c"], seconds={"gradient": 1.5})


def test_scalars_are_medians_and_shares_of_fooled_classes():
    scalars = result().scalars()
    assert scalars["gradient/median_confidence"] == pytest.approx(0.998)
    assert scalars["gradient/fooled_classes"] == pytest.approx(2 / 3)
    assert scalars["direct/fooled_classes"] == 0


def test_the_summary_names_the_method_that_fools_most():
    assert (
        result().summary().startswith("Unrecognisable images reach a median confidence of 99.80% (gradient; above 99%")
    )


def test_the_table_says_when_the_median_passed_99_percent():
    (table,) = result().tables()
    assert [row[0] for row in table.rows] == ["gradient", "direct"]
    assert table.rows[0][5] == 1
    assert table.rows[0][6] == 1.5


def test_pictures_show_an_image_a_class_and_a_line_a_method():
    gallery, curves = (picture.draw() for picture in result().pictures())
    assert sum(len(panel.images) for panel in gallery.axes) == 6
    assert len(curves.axes[0].lines) == 2


def test_a_gallery_of_many_classes_shows_the_surest():
    many = FoolingSet(torch.rand(30, 3, 4, 4), torch.arange(30), torch.linspace(0, 1, 30), [(0, 0.5)])
    shown = FoolingResult(title="F", found={"x": many}, class_names=[f"c{i}" for i in range(30)])
    titles = [panel.get_title().split("\n")[0] for panel in shown.pictures()[0].draw().axes]
    assert titles == [f"c{i}" for i in range(10, 30)]


def test_missing_images_are_refused():
    with pytest.raises(ValueError, match="2 images for 3 classes"):
        FoolingResult(title="F", found={"x": found(0.1, 0.2)}, class_names=["a", "b", "c"])


def test_plain_data_has_confidences_and_medians():
    data = result().as_dict()
    assert data["found"]["direct"]["confidences"] == pytest.approx([0.2, 0.3, 0.4])
    assert data["found"]["direct"]["medians"][1] == [1, 0.995]


def test_no_method_is_called_the_one_that_fools_most_of_equals():
    sets = {"gradient": found(0.2, 0.5, 0.9), "direct": found(0.1, 0.5, 0.6)}
    summary = FoolingResult(title="Fooling", found=sets, class_names=["a", "b", "c"]).summary()
    assert summary == "Unrecognisable images reach a median confidence of 50.00% (gradient and direct)."
