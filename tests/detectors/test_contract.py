"""A detector has one description, which tells any two settings apart."""

import inspect

import pytest

import lightning_adv.detectors as detectors
from lightning_adv.detectors import (
    AffineMutation,
    Detector,
    DetectorEnsemble,
    GaussianMutation,
    KernelDensity,
    LabelChangeRate,
    Mutation,
    UniformMutation,
)
from tests.detectors.problems import learnt, loader

KINDS = [
    each
    for name in detectors.__all__
    if inspect.isclass(each := getattr(detectors, name))
    and issubclass(each, Detector | Mutation)
    and not inspect.isabstract(each)
]
NEEDED = {DetectorEnsemble: {"detectors": {"kd": KernelDensity()}}}
"""Arguments that have no default."""

OTHER = {
    "detectors": {"kd": KernelDensity(bandwidth=0.5)},
    "layer": "net",
    "layers": ["net"],
    "bandwidth": 0.5,
    "variance_kept": 0.8,
    "mutation": UniformMutation(0.123),
    "kappa_1": 0.03,
    "sigma": 0.01,
    "alpha": 0.01,
    "beta": 0.01,
    "test": "fixed",
    "sprt": "paper",
    "norm": "L2",
    "false_rejection_rate": 0.1234,
    "weight": 0.5,
    "scale": 0.123,
    "scales": (2, 4),
    "normalise": True,
    "error": 0.5,
}
"""Another valid value of an argument; numbers that are not named here are changed by one."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_changing_any_argument_changes_the_description(kind):
    given = NEEDED.get(kind, {})
    usual = kind(**given)
    for name, parameter in inspect.signature(kind).parameters.items():
        if name == "seed":
            continue
        changed = kind(**given | {name: OTHER[name] if name in OTHER else parameter.default + 1})
        assert repr(changed) != repr(usual), name
        assert "?" not in repr(changed), f"{kind.__name__} does not keep {name}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_seed_is_no_part_of_the_description(kind):
    if "seed" in inspect.signature(kind).parameters:
        assert repr(kind(seed=1)) == repr(kind())


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (LabelChangeRate(GaussianMutation(0.1)), LabelChangeRate(GaussianMutation(0.1004))),
        (LabelChangeRate(GaussianMutation(0.1)), LabelChangeRate(AffineMutation(0.1))),
        (DetectorEnsemble({"a": KernelDensity()}), DetectorEnsemble({"b": KernelDensity()})),
    ],
)
def test_what_a_detector_holds_is_described_with_it(one, another):
    assert repr(one) != repr(another)


def test_a_detector_that_has_learnt_is_described_as_before():
    detector = KernelDensity()
    assert repr(detector.fit(learnt(), loader(30)).calibrate(learnt(), loader(30, seed=1))) == repr(KernelDensity())
