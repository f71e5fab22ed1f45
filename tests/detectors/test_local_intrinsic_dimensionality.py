"""LID estimates the dimension that points fill, layer by layer, from a fixed choice of clean images."""

import sys

import pytest
import torch

from lightning_adv.detectors import LocalIntrinsicDimensionality, local_intrinsic_dimensionality
from lightning_adv.detectors.distances import nearest_distances
from lightning_adv.detectors.features import activations
from lightning_adv.detectors.local_intrinsic_dimensionality import lid_of_distances
from lightning_adv.errors import InputError
from tests.detectors.problems import blobs, learnt, loader
from tests.processes import run


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_estimate_is_the_dimension_of_the_cube_that_points_fill(dimension):
    generator = torch.Generator().manual_seed(0)
    cloud = torch.rand(4000, dimension, generator=generator)
    inner = 0.4 + 0.2 * torch.rand(300, dimension, generator=generator)
    plane = torch.nn.functional.pad(inner, (0, 8)), torch.nn.functional.pad(cloud, (0, 8))
    assert lid_of_distances(nearest_distances(*plane, 40)).mean().item() == pytest.approx(dimension, rel=0.12)


def test_the_estimate_is_the_formula():
    r = torch.tensor([[1.0, 2.0, 4.0]])
    expected = -1 / ((torch.log(torch.tensor(1 / 4)) + torch.log(torch.tensor(2 / 4)) + 0) / 3)
    assert lid_of_distances(r).item() == pytest.approx(expected.item())


def test_the_nearest_are_found_exactly_and_a_point_is_not_its_own_neighbour():
    points = torch.rand(300, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values[:, 1:6]
    assert torch.allclose(nearest_distances(points, points, 5), expected, atol=1e-6)


def test_a_point_is_not_its_own_neighbour_when_its_features_were_rounded_otherwise():
    points = torch.rand(300, 4, generator=torch.Generator().manual_seed(0))
    rounded = points * (1 + 3 * torch.finfo(torch.float32).eps)
    assert torch.allclose(nearest_distances(rounded, points, 5), nearest_distances(points, points, 5), atol=1e-5)


def test_equal_distances_have_a_finite_dimension():
    assert lid_of_distances(torch.ones(2, 20)).tolist() == pytest.approx([1e6, 1e6])


def test_every_layer_has_its_measure_and_the_score_is_their_mean():
    model, x = learnt(), blobs(7, seed=3)[0]
    detector = LocalIntrinsicDimensionality(k=10).fit(model, loader())
    measures = detector.measures(model, x)
    assert measures.shape == (7, 3)  # conv, hidden, logits
    assert torch.allclose(measures.mean(dim=1), detector.score(model, x))
    one = LocalIntrinsicDimensionality(["hidden"], k=10).fit(model, loader()).measures(model, x)
    assert torch.allclose(one[:, 0], measures[:, 1], rtol=1e-4)


def test_a_layer_is_measured_in_each_minibatch_and_averaged():
    model, x = learnt(), blobs(7, seed=3)[0]
    whole, parted = (
        LocalIntrinsicDimensionality(["hidden"], k=5, minibatch=n).fit(model, loader()) for n in (None, 40)
    )
    clean = whole.reference[0]
    features = activations(model, x, ["hidden"])[0][0] - whole.centres[0]
    halves = [lid_of_distances(nearest_distances(features, clean[start::2], 5)) for start in (0, 1)]
    torch.testing.assert_close(parted.score(model, x), torch.stack(halves).mean(dim=0))
    assert not torch.allclose(parted.score(model, x), whole.score(model, x), rtol=1e-2)


def test_more_clean_images_do_not_shrink_the_neighbourhood():
    """A line that is a little thick: of few points the neighbours lie along it, of many they fill its section."""
    thick = 0.5 + torch.tensor([0.1, *[0.001] * 5]) * torch.randn(5000, 6, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 6, bias=False))
    torch.nn.init.eye_(model[1].weight)
    images = thick.clamp(0, 1).view(-1, 1, 1, 6)
    clean, x = [(images[:4900], torch.zeros(4900, dtype=torch.int64))], images[4900:]
    far, near = (
        LocalIntrinsicDimensionality(reference_samples=None, minibatch=size).fit(model, clean).score(model, x).median()
        for size in (100, None)
    )
    assert far < 1.3
    assert near > 1.8


def test_the_choice_of_references_does_not_depend_on_batches():
    model, x = learnt(), blobs(7, seed=3)[0]
    few = [
        LocalIntrinsicDimensionality(k=5, reference_samples=30).fit(model, loader(batch_size=size)).score(model, x)
        for size in (7, 90)
    ]
    assert torch.allclose(*few, rtol=1e-4)
    other = LocalIntrinsicDimensionality(k=5, reference_samples=30, seed=1).fit(model, loader()).score(model, x)
    assert not torch.allclose(few[0], other)


def test_a_score_does_not_depend_on_the_batch():
    model, x = learnt(), blobs(9, seed=3)[0]
    detector = LocalIntrinsicDimensionality(k=10).fit(model, loader())
    alone = torch.cat([detector.score(model, each) for each in x.split(1)])
    assert torch.allclose(alone, detector.score(model, x), rtol=1e-3)


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        (lambda: LocalIntrinsicDimensionality(["convolution"]), "no layer 'convolution'.*conv, hidden, dropout"),
        (lambda: LocalIntrinsicDimensionality(k=90), "needs more clean images, got 90"),
        (lambda: LocalIntrinsicDimensionality(k=1), "k must be at least 2"),
        (lambda: LocalIntrinsicDimensionality(k=20, reference_samples=20), "below reference_samples"),
        (lambda: LocalIntrinsicDimensionality(minibatch=20), "k must be below minibatch"),
        (lambda: LocalIntrinsicDimensionality([]), "layers is empty"),
    ],
)
def test_what_cannot_work_is_refused(detector, said):
    with pytest.raises(InputError, match=said):
        detector().fit(learnt(), loader())


def test_it_must_be_fitted_first():
    with pytest.raises(InputError, match="call fit"):
        LocalIntrinsicDimensionality().score(learnt(), blobs(2)[0])


def test_blocks_keep_the_order_of_the_pieces(monkeypatch):
    monkeypatch.setattr(local_intrinsic_dimensionality, "BLOCK", 10 * 4)
    rows, parts = torch.arange(41.0)[:, None], []
    for piece in rows.split([3, 4, 5, 20, 2, 1, 6]):
        local_intrinsic_dimensionality._add(parts, piece)
    assert [len(each) for each in parts] == [12, 20, 2, 1, 6]
    assert torch.equal(torch.cat(parts), rows)


HUNGRY = """
import resource
import sys
import torch
from lightning_adv.detectors import LocalIntrinsicDimensionality

torch.set_num_threads(1)
unit = 2**20 if sys.platform == "darwin" else 2**10  # of a MiB
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 6000))
clean = ((torch.rand(250, 1, 1, 1), torch.zeros(250, dtype=torch.int64)) for _ in range(80))
small = LocalIntrinsicDimensionality(reference_samples=None).fit(model, [next(clean), next(clean)])
before = peak()
detector = LocalIntrinsicDimensionality(reference_samples=None).fit(model, clean)
print(peak() - before, detector.reference[0].nbytes / 2**20)
"""


@pytest.mark.slow
def test_features_are_held_once(tmp_path):
    """Of 450 MiB, in pieces that glibc would keep for itself; in a process of its own, whose peak is this one's."""
    (tmp_path / "hungry.py").write_text(HUNGRY)
    ran = run([sys.executable, "hungry.py"], tmp_path)
    assert ran.returncode == 0, ran.stderr
    grown, held = map(float, ran.stdout.split())
    assert held > 400
    assert grown < 1.5 * held
