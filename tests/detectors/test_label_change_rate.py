"""Label change rate: black box, batched as if one at a time, with verdicts that say what they are worth."""

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.detectors import GaussianMutation, LabelChangeRate, PaperMutation, UniformMutation, predicted_labels
from lightning_adv.detectors.mutation import mutation_noise
from lightning_adv.errors import InputError
from tests.detectors.problems import Halves, blobs, learnt, loader, near_and_far

SETTINGS = {"kappa_1": 0.1, "mu": 1.5, "max_mutations": 400}


def detector(**options: object) -> LabelChangeRate:
    return LabelChangeRate(UniformMutation(0.1), **(SETTINGS | options))


def test_the_rate_is_the_share_of_mutations_beyond_the_boundary():
    """The mean of 36 pixels moves by a normal law of known width; the image stands at a known distance."""
    score = LabelChangeRate(GaussianMutation(0.06), mutations=4000).score(Halves(), near_and_far())
    distance = near_and_far().mean(dim=(1, 2, 3)).double() - 0.5
    expected = 0.5 * torch.erfc(distance / (0.06 / 6) / math.sqrt(2))
    assert torch.allclose(score[1:6].double(), expected[1:6], atol=0.03)
    assert (score[6:] == 0).all()


@pytest.mark.parametrize("sprt", ["wald", "paper"])
@pytest.mark.parametrize("batch_size", [1, 50, 1000])
def test_the_batched_test_is_the_loop_over_single_mutations(sprt, batch_size):
    found = detector(sprt=sprt, batch_size=batch_size).decide(Halves(), near_and_far())
    for i, x in enumerate(near_and_far()):
        assert (found.suspicious[i].item(), found.mutations[i].item(), found.changes[i].item()) == one_at_a_time(
            detector(sprt=sprt), Halves(), x[None], i
        )
    assert found.suspicious.any()
    assert not found.suspicious.all()


def one_at_a_time(lcr: LabelChangeRate, model: nn.Module, x: Tensor, index: int) -> tuple[bool, int, int]:
    """Algorithm 1 for one image, looked at after every mutation."""
    p0, p1 = lcr.hypotheses()
    changes = summed = 0
    for n in range(1, lcr.max_mutations + 1):
        mutant = lcr.mutation(x, mutation_noise(lcr.seed, torch.tensor([index]), torch.tensor([n - 1])))
        changes += int(predicted_labels(model, mutant) != predicted_labels(model, x))
        summed += changes
        c, trials = (summed, n * (n + 1)) if lcr.sprt == "paper" else (changes, n)
        ratio = c * math.log(p1 / p0) + (trials - c) * math.log((1 - p1) / (1 - p0))
        if ratio >= math.log((1 - lcr.beta) / lcr.alpha):
            return True, n, changes
        if ratio <= math.log(lcr.beta / (1 - lcr.alpha)):
            return False, n, changes
    return False, n, changes


def test_both_modes_side_by_side_the_papers_stops_earlier_on_every_image():
    wald, paper = (detector(sprt=mode).decide(Halves(), near_and_far()) for mode in ("wald", "paper"))
    assert (paper.mutations < wald.mutations).all()
    assert paper.error_bound.isnan().all(), "its bounds do not hold, so it states none"


def test_an_image_that_never_changes_its_label_is_decided_to_be_normal():
    verdict = detector().decide(Halves(), near_and_far()[-1:])
    p0, p1 = detector().hypotheses()
    assert verdict.mutations.item() == math.ceil(math.log(0.05 / 0.95) / math.log((1 - p1) / (1 - p0)))
    assert not verdict.suspicious.item()
    assert not verdict.undecided.item()


def test_an_image_that_is_undecided_at_the_end_says_so_and_is_not_suspicious():
    verdict = detector(max_mutations=7).decide(Halves(), near_and_far()[-1:])
    assert verdict.undecided.item()
    assert not verdict.suspicious.item()
    assert verdict.mutations.item() == 7
    assert verdict.error_bound.isnan().item()


def test_a_verdict_carries_walds_bound_on_its_error():
    verdict = detector(alpha=0.01, beta=0.1, max_mutations=5000).decide(Halves(), near_and_far()[[0, -1]])
    assert verdict.suspicious.tolist() == [True, False]
    assert verdict.error_bound.tolist() == pytest.approx([0.01 / 0.9, 0.1 / 0.99])


def test_the_fixed_size_test_agrees_on_clear_cases_and_makes_the_same_number_of_mutations_for_all():
    fixed = detector(test="fixed").decide(Halves(), near_and_far())
    sequential = detector(max_mutations=5000).decide(Halves(), near_and_far())
    clear = torch.tensor([0, -2, -1])
    assert fixed.suspicious[clear].tolist() == sequential.suspicious[clear].tolist() == [True, False, False]
    assert len(set(fixed.mutations.tolist())) == 1
    assert sequential.mutations.max() <= fixed.mutations[0] or sequential.mutations.median() < fixed.mutations[0]


def test_a_fixed_size_beyond_max_mutations_is_refused_with_its_number():
    with pytest.raises(InputError, match=r"needs [\d,]+ mutations, more than max_mutations=400"):
        detector(test="fixed", mu=1.05).decide(Halves(), near_and_far())


def test_labels_alone_are_enough():
    model = learnt().eval()

    def oracle(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model(x).argmax(dim=1)

    x = blobs(20)[0]
    lcr = LabelChangeRate(UniformMutation(0.3), kappa_1=0.1, mu=1.5)
    assert torch.equal(lcr.score(oracle, x), lcr.score(model, x))
    assert torch.equal(lcr.decide(oracle, x).mutations, lcr.decide(model, x).mutations)


def test_a_victim_of_scikit_learn_is_watched_without_a_torch_module():
    from sklearn.tree import DecisionTreeClassifier

    x, y = blobs(90)
    victim = DecisionTreeClassifier(random_state=0).fit(x.flatten(1).numpy(), y.numpy())
    lcr = LabelChangeRate(UniformMutation(0.2), mutations=100)

    def oracle(image: Tensor) -> Tensor:
        return torch.from_numpy(victim.predict(image.flatten(1).numpy()))

    lcr.calibrate(oracle, loader(30, seed=2))
    score = lcr.score(oracle, blobs(12, seed=3)[0])
    assert ((score >= 0) & (score <= 1)).all()
    assert lcr.decide(oracle, blobs(12, seed=3)[0]).mutations.min() >= 1


@pytest.mark.parametrize("method", ["score", "decide"])
def test_an_images_result_depends_on_its_number_and_not_on_its_batch(method):
    lcr, x, index = detector(), near_and_far(), torch.arange(8) + 40
    whole = getattr(lcr, method)(Halves(), x, index=index)
    alone = [getattr(lcr, method)(Halves(), x[i : i + 1], index=index[i : i + 1]) for i in range(8)]
    if method == "decide":
        whole, alone = whole.mutations, [each.mutations for each in alone]
    assert torch.equal(whole, torch.cat(alone))
    other = getattr(lcr, method)(Halves(), x, index=index + 100)
    assert not torch.equal(whole, other.mutations if method == "decide" else other)


def test_calibration_flags_the_share_of_clean_images_that_was_asked_for():
    model, lcr = learnt(), LabelChangeRate(UniformMutation(0.4), mutations=200)
    lcr.calibrate(model, loader(300, seed=1), false_positive_rate=0.1)
    rates = lcr.clean_scores(model, loader(300, seed=1))
    assert lcr.kappa_1 == pytest.approx(rates.mean().item(), abs=1e-6)
    assert 0.05 < (rates > lcr.threshold).float().mean().item() <= 0.1


def test_calibration_on_images_that_never_change_leaves_a_test_that_ends():
    lcr = LabelChangeRate(UniformMutation(0.001), mutations=50).calibrate(learnt(), loader(30))
    assert lcr.kappa_1 == pytest.approx(1 / (30 * 50), rel=0.1)
    assert not lcr.decide(learnt(), blobs(5)[0]).undecided.any()


def test_the_model_is_left_as_it_was():
    model = learnt().train()
    state, rng = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with torch.inference_mode():
        detector().decide(model, blobs(4)[0])
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kappa_1": 1.0}, r"must lie in \(0, 1\), got 1"),
        ({"kappa_1": 1.5}, r"must lie in \(0, 1\), got 1.5"),
        ({"kappa_1": 0.0}, r"must lie in \(0, 1\)"),
        ({"kappa_1": 0.6, "mu": 1.5}, "lower mu or sigma"),
        ({"mu": 1.0}, "mu must be above 1"),
        ({"alpha": 0.0}, "alpha and beta"),
        ({"sprt": "walt"}, "wald or paper"),
        ({"test": "both"}, "sprt or fixed"),
        ({"mutations": 0}, "mutations must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        LabelChangeRate(PaperMutation(), **options)


def test_a_test_without_kappa_1_asks_for_calibration():
    with pytest.raises(InputError, match="calibrate"):
        LabelChangeRate().decide(Halves(), near_and_far())


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.rand(2, 3, 4), "N x C x H x W"),
        (torch.rand(2, 1, 6, 6) * 255, r"must lie in \[0, 1\]"),
        (torch.zeros(0, 1, 6, 6), "N >= 1"),
        (torch.full((1, 1, 6, 6), torch.nan), r"must lie in \[0, 1\]"),
    ],
)
def test_images_that_are_none_are_refused(x, said):
    with pytest.raises(InputError, match=said):
        detector().score(Halves(), x)


def test_a_model_that_says_neither_labels_nor_logits_is_refused():
    with pytest.raises(InputError, match="integer labels"):
        detector().score(lambda x: x.mean(dim=(1, 2, 3)), near_and_far())
