"""What every detector shares: what it found in images is kept apart from the verdict, and joined by their numbers."""

import torch

from lightning_adv.detectors import DetectorEnsemble, Evidence, KernelDensity, LabelChangeRate, UniformMutation
from tests.detectors.problems import blobs, learnt, loader


def test_rows_are_sorted_by_their_number_and_none_is_no_row():
    parts = (torch.zeros(0, 2), torch.tensor([[7.0, 1.0]]), torch.tensor([[3.0, 2.0], [5.0, 4.0]]))
    whole = Evidence.joined([Evidence(rows[:, 0].long(), rows) for rows in parts])
    assert whole.measures.tolist() == [[3.0, 2.0], [5.0, 4.0], [7.0, 1.0]]
    assert Evidence.joined([Evidence(torch.zeros(0), torch.zeros(0, 3))]).measures.shape == (0, 3)


def test_what_a_test_said_goes_with_its_images():
    number, undecided = torch.tensor([4, 0, 9]), torch.tensor([True, False, False])
    parts = [Evidence(number, number[:, None], ~undecided, 10 * number, undecided).of(rows) for rows in ([2], [0, 1])]
    whole = Evidence.joined(parts).of(torch.tensor([True, True, False]))
    assert whole.mutations.tolist() == [0, 40]
    assert whole.suspicious.tolist() == [True, False]
    assert whole.undecided.tolist() == [False, True]


def test_a_verdict_is_the_same_whether_images_are_judged_at_once_or_by_what_was_found_in_them():
    model, x = learnt(), torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    density = KernelDensity().fit(model, loader()).calibrate(model, loader(60, seed=1))
    density.threshold = density.score(model, x).median().item()
    rate = LabelChangeRate(UniformMutation(0.4), kappa_1=0.1, mu=2.0, mutations=30, max_mutations=40)
    for detector in (density, rate):
        at_once, later = detector.decide(model, x), detector.judge(detector.examine(model, x))
        assert torch.equal(at_once.suspicious, later.suspicious)
        assert 0 < at_once.suspicious.sum() < len(x)
        assert torch.equal(later.score, detector.score(model, x))
    assert torch.equal(later.mutations, at_once.mutations)
    assert torch.equal(later.undecided, at_once.undecided)


def test_an_ensemble_weighs_itself_and_leaves_the_one_that_was_asked_alone():
    model, noise = learnt(), torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ensemble = DetectorEnsemble({"kd": KernelDensity()}).fit(model, loader())
    normal, adversarial = (ensemble.examine(model, x) for x in (blobs(30, seed=2)[0], noise))
    weighed = ensemble.weighed(normal, adversarial)
    assert weighed.judge(adversarial).suspicious.float().mean() > 0.8
    assert weighed.judge(normal).suspicious.float().mean() < 0.2
    assert ensemble.regression is None
    assert ensemble.weighed(normal.of([0, 1, 2, 3]), adversarial) is None
    member = ensemble.detectors["kd"]
    assert member.weighed(normal, adversarial) is member
