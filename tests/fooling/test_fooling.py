"""Images that a model is sure of: in the box, the same for a seed, better every generation, whatever the encoding."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.fooling import Fooling, FoolingCPPN, FoolingEvolution, FoolingGradient

SHAPE = (2, 6, 6)
METHODS: dict[str, Fooling] = {
    "gradient": FoolingGradient(steps=40),
    "direct": FoolingEvolution(generations=40, population=40),
    "cppn": FoolingCPPN(generations=40, population=40),
}


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 5)
        )
        nn.init.normal_(model[-1].weight, std=0.8)
    return model


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Fooling:
    return METHODS[request.param]


def test_the_images_are_in_the_box_and_the_model_is_as_sure_of_them_as_is_said(method):
    model = net()
    found = method(model, SHAPE)
    assert found.images.shape == (5, *SHAPE)
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    with torch.no_grad():
        shares = model.eval()(found.images).softmax(dim=1)
    torch.testing.assert_close(shares.diagonal(), found.confidences)


def test_the_median_never_falls_and_rises(method):
    medians = [median for _, median in method(net(), SHAPE).medians]
    assert medians == sorted(medians)
    assert len(medians) == 41
    assert medians[-1] > medians[0] + 0.05


def test_a_seed_gives_the_same_images_and_leaves_everything_as_it_was(method):
    model = net().train()
    state, weights = torch.get_rng_state(), [each.clone() for each in model.state_dict().values()]
    first, second = method(model, SHAPE), method(model, SHAPE)
    assert torch.equal(first.images, second.images)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))


def test_only_the_classes_wanted_are_made(method):
    found = method(net(), SHAPE, classes=[4, 1])
    assert found.classes.tolist() == [4, 1]
    assert found.images.shape == (2, *SHAPE)


def test_a_class_that_does_not_exist_is_named(method):
    with pytest.raises(InputError, match=r"classes must be some of 0 \.\. 4"):
        method(net(), SHAPE, classes=[5])


def test_it_works_inside_inference_mode(method):
    model = net()
    with torch.inference_mode():
        found = method(model, SHAPE, classes=[0])
    assert found.images.shape == (1, *SHAPE)


def linear(x: Tensor) -> Tensor:
    """Class 1 wants every pixel bright, class 0 every pixel dark."""
    mean = 4 * (x.mean(dim=(1, 2, 3)) - 0.5)
    return torch.stack([-mean, mean], dim=1)


def test_the_gradient_finds_the_corner_of_a_linear_model():
    found = FoolingGradient(steps=60, decay=0.0)(linear, (1, 4, 4))
    torch.testing.assert_close(found.images[0], torch.zeros(1, 4, 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.images[1], torch.ones(1, 4, 4), atol=1e-3, rtol=0)


def test_polynomial_mutation_has_the_share_and_the_spread_of_its_equation():
    from lightning_adv.fooling.evolution import Pixels
    from lightning_adv.fooling.fooling import Task

    task = Task(linear, (1, 50, 50), torch.arange(2), seed=0)
    method = FoolingEvolution(rate=0.2, halving=10, strength=15.0)
    grey = Pixels(torch.full((8, 1, 50, 50), 0.5))
    for generation, share in ((1, 0.2), (10, 0.1), (25, 0.05)):
        change = method.mutated(task, grey, generation).image - 0.5
        assert (change != 0).double().mean().item() == pytest.approx(share, rel=0.1)
    moved = change[change != 0]
    # |delta| = 1 - v^(1/16), v uniform in [0, 1): mean 1 - 16/17
    assert moved.abs().mean().item() == pytest.approx(1 - 16 / 17, rel=0.1)
    assert abs(moved.mean().item()) < 0.01


@pytest.mark.parametrize("options", [{"generations": 0}, {"rate": 0.0}, {"strength": -1.0}])
def test_evolution_without_sense_is_refused(options):
    with pytest.raises(InputError):
        FoolingEvolution(**options)
