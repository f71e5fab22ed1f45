"""A mistake gives one message with its cause and its remedy; what is meant is understood."""

import pytest
import torch

from lightning_adv.attacks import BIM, FGSM, PGD, Square, WorstOf
from lightning_adv.attacks.budget import as_float, as_text
from lightning_adv.errors import InputError

from .problems import Constant, images, smooth_cnn

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("entry", ["__call__", "run"])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (images() * 5 - 2, LABELS, r"images must lie in \[0, 1\], got \[-1.99, 3\]: normalise inside the model"),
        (images() * 255, LABELS, r"images must lie in \[0, 1\], got .*divided by 255"),
        (images() / 0 * 0, LABELS, r"images must lie in \[0, 1\], got \[nan, nan\]: they contain NaN"),
        ((images() * 255).byte(), LABELS, r"must be a float tensor N x C x H x W, got torch.uint8 of shape \(6, 2"),
        (images()[0], LABELS, r"must be a float tensor N x C x H x W, got torch.float32 of shape \(2, 6, 6\)"),
        (images()[:0], LABELS[:0], r"the batch is empty: an attack needs at least one image"),
        (images(), LABELS[:4], r"labels must be 6 integers, one an image, got torch.int64 of shape \(4,\)"),
        (images(), 2 * torch.eye(3)[LABELS], r"labels of shape \(6, 3\) must be probabilities, rows that sum to 1"),
        (images(), LABELS.float(), r"labels must be 6 integers, one an image, got torch.float32 of shape \(6,\)"),
    ],
)
def test_images_and_labels_that_cannot_be_meant_are_refused(entry, x, y, message):
    with pytest.raises(InputError, match=message):
        getattr(PGD(steps=1), entry)(smooth_cnn(), x, y)


@pytest.mark.parametrize("entry", ["__call__", "run"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([1, 1, 0, 1, 2, 0]), r"a target equals its label: .*choose another class"),
        (torch.tensor([1, 2]), r"targets must be 6 integers, one an image, got torch.int64 of shape \(2,\)"),
        (LABELS + 0.5, r"targets must be 6 integers, one an image, got torch.float32"),
    ],
)
def test_targets_that_cannot_be_meant_are_refused(entry, target, message):
    with pytest.raises(InputError, match=message):
        getattr(PGD(steps=1), entry)(smooth_cnn(), images(), LABELS, target=target)


def test_an_index_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"index must be 6 integers, one an image, got shape \(2,\)"):
        PGD(steps=1)(smooth_cnn(), images(), LABELS, index=torch.arange(2))


@pytest.mark.parametrize("attack", [PGD(steps=2), Square(queries=3), WorstOf([FGSM()])])
def test_pixels_that_only_rounding_put_outside_are_taken_for_what_they_are(attack):
    x = images().round()
    apart = x + 1.2e-7 * (2 * x - 1)
    assert apart.max() > 1 > 0 > apart.min()
    found, expected = attack.run(smooth_cnn(), apart, LABELS).images, attack.run(smooth_cnn(), x, LABELS).images
    assert torch.equal(found, expected)
    assert 0 <= found.min() <= found.max() <= 1
    assert torch.equal(attack(smooth_cnn(), apart, LABELS), attack(smooth_cnn(), x, LABELS))


def test_what_is_outside_is_not_shown_as_if_it_were_inside():
    with pytest.raises(InputError, match=r"images must lie in \[0, 1\], got \[.*, 1.00001\]: normalise"):
        PGD(steps=1).run(smooth_cnn(), images().round() * (1 + 1e-5), LABELS)


@pytest.mark.parametrize("entry", ["__call__", "run"])
def test_truth_values_are_no_classes(entry):
    with pytest.raises(InputError, match=r"labels must be 6 integers, one an image, got torch.bool"):
        getattr(PGD(steps=1), entry)(smooth_cnn(), images(), LABELS > 0)
    with pytest.raises(InputError, match=r"targets must be 6 integers, one an image, got torch.bool"):
        getattr(PGD(steps=1), entry)(smooth_cnn(), images(), LABELS, target=LABELS == 0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int8, torch.int16, torch.int32])
def test_labels_and_targets_of_any_integer_type_are_accepted(dtype):
    model, x = smooth_cnn(), images()
    labels, targets = LABELS.to(dtype), ((LABELS + 1) % 3).to(dtype)
    expected = FGSM()(model, x, LABELS, target=(LABELS + 1) % 3)
    assert torch.equal(FGSM()(model, x, labels, target=targets), expected)
    ensemble = WorstOf([FGSM(eps=0.001), PGD(steps=2)])
    assert torch.equal(ensemble.run(model, x, labels).images, ensemble.run(model, x, LABELS).images)


@pytest.mark.parametrize("attack", [PGD, BIM, FGSM])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 8}, r"eps must lie in \[0, 1\] for Linf, got 8: .*8/255"),
        ({"eps": -0.1}, r"eps must be finite and not negative, got -0.1; it is the radius"),
        ({"eps": "nan"}, r"eps must be finite and not negative, got nan"),
        ({"eps": "inf", "norm": "L2"}, r"eps must be finite and not negative, got inf"),
        ({"eps": "abc"}, r"eps must be a number or a fraction such as 8/255, got 'abc'"),
        ({"eps": "8/0"}, r"eps must be a number or a fraction such as 8/255, got '8/0'"),
        ({"norm": "L3"}, r"norm must be one of Linf, L2, L1, got 'L3'"),
        ({"norm": "linf", "eps": 0.1}, r"norm must be one of Linf, L2, L1, got 'linf'"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused_at_once(attack, arguments, message):
    with pytest.raises(InputError, match=message):
        attack(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"steps must be at least 1, got 0"),
        ({"steps": -3}, r"steps must be at least 1, got -3"),
        ({"step_size": -0.1}, r"step_size must be finite and not negative, got -0.1"),
        ({"step_size": "nan"}, r"step_size must be finite and not negative, got nan"),
        ({"step_size": "two"}, r"step_size must be a number or a fraction such as 8/255, got 'two'"),
        ({"restarts": 0}, r"restarts must be at least 1, got 0"),
        ({"restarts": 2, "start": "clean"}, r"restarts from the clean image repeat each other; use start: uniform"),
        ({"start": "noise"}, r"start must be uniform, clean or gaussian, got 'noise'"),
    ],
)
def test_steps_and_starts_that_cannot_be_meant_are_refused_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        PGD(**arguments)


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), (0.5, 0.5), (1, 1.0), (" 2 / 255 ", 2 / 255)]
)
def test_budgets_are_written_as_numbers_or_fractions(text, value):
    assert as_float("eps", text) == value
    assert PGD(eps=text).eps == value


def test_a_ball_wider_than_the_box_is_fine_where_lengths_add_up():
    assert PGD(eps=12, norm="L1").eps == 12
    assert PGD(eps="3/2", norm="L2").eps == 1.5


def test_an_attack_prints_its_hyperparameters_as_the_field_writes_them():
    assert repr(PGD(eps="8/255", step_size="2/255", steps=20)) == (
        "PGD(eps=8/255, step_size=2/255, steps=20, norm=Linf, start=uniform, restarts=1)"
    )
    assert repr(FGSM(eps=0.3)) == "FGSM(eps=0.3, norm=Linf)"
    assert as_text(0.0) == "0"


def test_an_attack_without_a_budget_cannot_be_scaled():
    with pytest.raises(InputError, match="Constant has no eps to scale"):
        Constant(images()).scaled(0.5)
