"""Kernel density is the density that its formula says, chunked, and chooses its bandwidth by held-out likelihood."""

import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity as Peer
from torch import nn

from lightning_adv.detectors import KernelDensity
from lightning_adv.detectors import distances as distances_module
from lightning_adv.detectors.distances import class_log_densities, nearest_distances
from lightning_adv.detectors.features import activations
from lightning_adv.detectors.kernel_density import cross_validated_bandwidth
from lightning_adv.errors import InputError
from tests.detectors.problems import blobs, learnt, loader


def test_the_score_is_scikit_learns_density_of_the_predicted_class():
    model, h = learnt().eval(), 0.8
    detector = KernelDensity("hidden", bandwidth=h).fit(model, loader())
    x, y = blobs(90)
    queries = blobs(20, seed=3)[0]
    with torch.no_grad():
        (reference,), _ = activations(model, x, ["hidden"])
        (own,), logits = activations(model, queries, ["hidden"])
    constant = 16 * torch.log(torch.tensor(h * (2 * torch.pi) ** 0.5)).item()
    for i, c in enumerate(logits.argmax(dim=1)):
        peer = Peer(bandwidth=h).fit(reference[y == c].numpy())
        expected = -(peer.score_samples(own[i : i + 1].numpy())[0] + constant)
        assert detector.score(model, queries[i : i + 1]).item() == pytest.approx(expected, abs=2e-3)


def test_the_default_layer_is_the_input_of_the_last_linear_one():
    model, x = learnt().eval(), blobs(8)[0]
    with torch.no_grad():
        (hidden,), logits = activations(model, x, [None])
        assert torch.allclose(model.logits(hidden), logits, atol=1e-6)


def test_the_bandwidth_is_that_of_highest_held_out_likelihood():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(600, 2, generator=generator)
    ours = cross_validated_bandwidth(points, torch.zeros(600, dtype=torch.int64))
    grid = GridSearchCV(Peer(), {"bandwidth": torch.linspace(0.1, 1.0, 19).tolist()}, cv=3).fit(points.numpy())
    assert ours == pytest.approx(grid.best_params_["bandwidth"], rel=0.25)


def test_pieces_do_not_change_the_result(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, reference = torch.randn(30, 5, generator=generator), torch.randn(200, 5, generator=generator)
    counts, width = [50, 80, 0, 70], torch.tensor([0.5, 2.0])
    whole = class_log_densities(queries, reference, counts, width), nearest_distances(queries, reference, 7)
    monkeypatch.setattr(distances_module, "PIECE", 64)
    pieces = class_log_densities(queries, reference, counts, width), nearest_distances(queries, reference, 7)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_no_matrix_of_queries_by_references_is_held(monkeypatch):
    largest = 0
    squares = distances_module._squares

    def watched(rows, reference):
        nonlocal largest
        for piece in squares(rows, reference):
            largest = max(largest, piece.numel())
            yield piece

    monkeypatch.setattr(distances_module, "_squares", watched)
    queries, reference = torch.rand(300, 2), torch.rand(60_000, 2)
    nearest_distances(queries, reference, 5)
    class_log_densities(queries, reference, [60_000], torch.ones(1))
    assert 0 < largest <= distances_module.PIECE < len(queries) * len(reference)


def test_log_densities_lose_no_digits_where_points_are_near_each_other_and_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    centre = 20 * torch.randn(16, generator=generator)
    queries, reference = (centre + 0.1 * torch.randn(count, 16, generator=generator) for count in (9, 60))
    widths = torch.tensor([0.05, 0.5])
    gaps = (queries.double()[:, None] - reference.double()).square().sum(dim=2)  # [N, M]
    exact = torch.logsumexp(-gaps / (2 * widths.double()[:, None, None].square()), dim=2) - torch.tensor(60.0).log()
    found = class_log_densities(queries, reference, [60], widths)[:, :, 0]
    assert torch.allclose(found.double(), exact, rtol=2**-22, atol=0)


def test_off_manifold_images_score_higher():
    model = learnt()
    detector = KernelDensity().fit(model, loader())
    clean = detector.score(model, blobs(60, seed=4)[0])
    noise = detector.score(model, torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert noise.median() > clean.quantile(0.9)


def test_a_threshold_flags_the_asked_share_of_clean_images():
    model = learnt()
    detector = KernelDensity().fit(model, loader()).calibrate(model, loader(200, seed=8), false_positive_rate=0.1)
    verdict = detector.decide(model, blobs(200, seed=8)[0])
    assert 0.07 <= verdict.suspicious.float().mean().item() <= 0.11


@pytest.mark.parametrize("count", [1, 5])
def test_a_score_depends_on_the_batch_by_the_rounding_of_features_alone(count):
    """|d score| <= |dz| max_i |z - z_i| / h^2, for the score's gradient is a mean of (z - z_i) / h^2."""
    model = learnt().eval()
    detector, x = KernelDensity().fit(model, loader()), blobs(17, seed=3)[0]
    features, scores = [], []
    for size in (count, len(x)):
        with torch.no_grad():
            features.append(torch.cat([activations(model, part, [None])[0][0] for part in x.split(size)]))
        scores.append(torch.cat([detector.score(model, part) for part in x.split(size)]))
    moved = (features[0] - features[1]).norm(dim=1)
    farthest = torch.cdist(features[1] - detector.centre, detector.reference).amax(dim=1)
    bound = moved * farthest / detector.chosen_bandwidth**2
    eps = torch.finfo(torch.float32).eps
    # Centring rounds a feature once more, and the score is rounded to float32.
    bound += eps * (features[1].norm(dim=1) * farthest / detector.chosen_bandwidth**2 + scores[1].abs())
    assert ((scores[0] - scores[1]).abs() <= bound).all()
    assert bound.max() < 0.01 * scores[1].std()


def test_a_layer_that_does_not_exist_is_answered_with_the_names():
    with pytest.raises(InputError, match=r"no layer 'hiden'; did you mean hidden\?.*conv, hidden, dropout, logits"):
        KernelDensity("hiden").fit(learnt(), loader())


def test_a_class_without_images_is_named():
    x, y = blobs(90)
    with pytest.raises(InputError, match="class 2 has 0"):
        KernelDensity().fit(learnt(), [(x[y < 2], y[y < 2])])


def test_what_cannot_work_is_said_before_it_is_tried():
    with pytest.raises(InputError, match="call fit"):
        KernelDensity().score(learnt(), blobs(3)[0])
    with pytest.raises(InputError, match="torch module"):
        KernelDensity().fit(lambda x: x.flatten(1), loader())
    with pytest.raises(InputError, match="no threshold"):
        KernelDensity().fit(learnt(), loader()).decide(learnt(), blobs(3)[0])
    with pytest.raises(InputError, match="bandwidth must be positive"):
        KernelDensity(bandwidth=0.0)
    with pytest.raises(InputError, match="no linear layer"):
        KernelDensity().fit(nn.Flatten(), loader())
    with pytest.raises(InputError, match="without images"):
        KernelDensity().fit(learnt(), [])
