import io

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_adv.results.figures import (
    accuracy_curve,
    adversarial_grid,
    class_shares,
    confidence_histogram,
    history_curves,
    in_house_style,
    png,
    svg,
)
from tests.results.samples import examples


def grid(count=3, channels=1, **options):
    shown = examples(count, channels)
    return adversarial_grid(
        shown.clean, shown.adversarial, shown.labels, shown.clean_predictions, shown.adversarial_predictions, **options
    )


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (3, 3), (10, 1)])
def test_every_sample_has_a_clean_an_adversarial_and_a_difference_panel(count, channels):
    assert sum(bool(panel.images) for panel in grid(count, channels).axes) == 3 * count


@pytest.mark.parametrize(("magnify", "written"), [(None, 5), (2.0, 2)])
def test_the_difference_is_magnified_by_the_factor_that_is_written(magnify, written):
    figure = grid(magnify=magnify)
    assert f"difference\n\N{MULTIPLICATION SIGN} {written}" in texts(figure)
    panels = np.array([panel for panel in figure.axes if panel.images]).reshape(3, 3)
    clean, adversarial, difference = (np.asarray(panel.images[0].get_array()) for panel in panels[:, 1])
    np.testing.assert_allclose(difference, written * (adversarial - clean), atol=1e-6)


def test_an_unchanged_colour_image_differs_by_plain_grey():
    same, labels = torch.rand(1, 3, 4, 4), torch.zeros(1, dtype=torch.long)
    last = adversarial_grid(same, same, labels, labels, labels).axes[-1]
    np.testing.assert_allclose(last.images[0].get_array(), 0.5)


def test_wrong_predictions_differ_in_mark_and_colour():
    panels = [panel.title for panel in grid(count=1).axes]
    clean, adversarial = panels[0], panels[1]
    assert (clean.get_text()[0], adversarial.get_text()[0]) == ("✓", "✗")
    assert clean.get_color() != adversarial.get_color()


def test_a_grid_of_images_that_do_not_match_is_refused():
    labels = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="one shape"):
        adversarial_grid(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 5, 5), labels, labels, labels)


def test_a_curve_says_how_many_images_are_behind_it():
    figure = accuracy_curve({"pgd": [(0.0, 1.0), (0.1, 0.5)], "one": [(0.1, 1.0)]}, "L2", {"pgd": 1200, "one": 1})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pgd (1,200 images)", "one (1 image)"]


@pytest.mark.parametrize(("norm", "eps", "extra_axes"), [("Linf", 8 / 255, 1), ("Linf", 0.3, 0), ("L2", 0.1, 0)])
def test_small_linf_radii_are_also_given_in_grey_levels(norm, eps, extra_axes):
    axes = accuracy_curve({"pgd": [(0.0, 1.0), (eps, 0.5)]}, norm, samples={"pgd": 50}).axes[0]
    assert len(axes.child_axes) == extra_axes
    assert axes.lines[0].get_xydata().tolist() == [[0.0, 1.0], [eps, 0.5]]


def test_few_classes_are_named_and_many_stand_in_falling_order():
    few = class_shares(["a", "b"], {"clean": [1.0, None], "pgd": [0.5, 0.25]}).axes[0]
    assert [label.get_text() for label in few.get_yticklabels()] == ["a", "b"]
    np.testing.assert_equal([line.get_xdata() for line in few.lines], [[1.0, np.nan], [0.5, 0.25]])
    many = class_shares([str(i) for i in range(100)], {"clean": [0.01 * i for i in range(100)]}).axes[0]
    assert many.lines[0].get_xydata()[[0, -1]].tolist() == [[1, 0.99], [100, 0]]


def test_histograms_are_shares_of_images():
    axes = confidence_histogram([0.97] * 4, [0.3, 0.97]).axes[0]
    outlines = [patch.get_xy() for patch in axes.patches if not patch.get_fill()]
    assert [outline[:, 1].max() for outline in outlines] == [1.0, 0.5]


def test_a_picture_by_class_shows_the_classes_that_have_images():
    names = [f"class {k}" for k in range(1000)]
    shares = [None] * 1000
    shares[7], shares[500] = 0.5, 1.0
    axes = class_shares(names, {"clean": shares}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 7", "class 500"]
    assert axes.lines[0].get_xdata().tolist() == [0.5, 1.0]


def test_hostile_class_names_are_drawn_as_text():
    names = ["$\\frac{", "$a$\n<b>"]
    figure = grid(class_names=names)
    assert Image.open(io.BytesIO(png(figure))).size[0] > 400
    png(class_shares(["漢字", *names], {"$x": [0.1, 0.2, 0.3]}), dpi=40)


def test_drawing_leaves_the_global_style_alone():
    # Reading rcParams["backend"] would itself import pyplot, hence the choice of keys.
    before = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
    assert png(history_curves({"accuracy": [(1, 0.5)]}), dpi=40).startswith(b"\x89PNG")
    assert {key: matplotlib.rcParams[key] for key in before} == before


def test_histories_are_drawn_in_the_order_of_epochs():
    axes = history_curves({"val/accuracy": [(2, 0.6), (1, 0.4)]}).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.4], [2, 0.6]]


def test_a_figure_is_saved_as_matplotlib_alone_would_and_stays_as_it_was():
    curves = {"val/clean_accuracy": [(1, 0.5), (2, 0.75)]}
    figure, alone = history_curves(curves), io.BytesIO()
    before = figure.get_layout_engine(), figure.canvas, figure.dpi
    saved = png(figure, dpi=100)
    assert (figure.get_layout_engine(), figure.canvas, figure.dpi) == before
    in_house_style(history_curves(curves).savefig)(alone, format="png", dpi=100, metadata={"Software": None})
    assert saved == alone.getvalue()


def test_a_chart_of_a_page_has_no_ground_and_keeps_the_figures():
    figure = accuracy_curve({"pgd": [(0.01, 0.9), (0.03, 0.5)]}, "Linf")
    assert b"#ffffff" not in svg(figure, "chart")
    grounds = [figure, *figure.axes, *figure.axes[0].child_axes]
    assert len(grounds) == 3
    assert all(each.patch.get_visible() for each in grounds)
