import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import FGSM, PGD, CarliniWagner, SampleNoise, Square
from lightning_adv.errors import InputError
from lightning_adv.purifiers import (
    JPEG,
    BitDepth,
    KMeansQuantization,
    PurifiedClassifier,
    Purifier,
    ThreatModel,
    TotalVariation,
    as_threat_models,
)
from tests.purifiers.problems import linear_classifier, scenes

SHAPE = (3, 8, 8)


class Mirror(Purifier):
    """1 - x: the exact gradient points where the identity's does not."""

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        return 1 - x


class Jitter(Purifier):
    """Adds noise to every pixel."""

    randomised = True

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        return x + 0.1 * noise.normal(x)


def problem(count: int = 6) -> tuple[Tensor, Tensor, nn.Module]:
    x = 0.25 + 0.5 * scenes(count, size=8)
    classifier = linear_classifier(SHAPE)
    return x, classifier(x).argmax(dim=1), classifier


def loss(classifier: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(classifier(x), y, reduction="none")


def test_the_whole_is_the_classifier_of_the_purified_image():
    x, _, classifier = problem()
    assert torch.equal(PurifiedClassifier(BitDepth(2), classifier)(x), classifier(BitDepth(2)(x)))


def test_a_blind_attacker_makes_what_it_makes_of_the_classifier():
    x, y, classifier = problem()
    attack = PGD(eps=0.05, steps=5)
    found = PurifiedClassifier(JPEG(75), classifier).attacked(attack, ThreatModel.BLIND, x, y)
    assert torch.equal(found, attack(classifier, x, y))


def test_an_adaptive_attacker_goes_the_other_way_where_the_purifier_mirrors_and_bpda_does_not():
    x, y, classifier = problem()
    whole = PurifiedClassifier(Mirror(), classifier)
    y = whole(x).argmax(dim=1)
    adaptive = whole.attacked(FGSM(eps=0.02), ThreatModel.ADAPTIVE, x, y)
    by_identity = whole.attacked(FGSM(eps=0.02), ThreatModel.BPDA, x, y)
    assert (loss(whole, adaptive, y) > loss(whole, x, y)).all()
    assert torch.equal(by_identity, x)  # nothing better than the clean image on its way


def test_bpda_of_a_step_function_finds_what_its_zero_gradient_hides():
    x, y, classifier = problem()
    whole = PurifiedClassifier(BitDepth(4), classifier)
    y = whole(x).argmax(dim=1)
    found = whole.attacked(PGD(eps=0.3, steps=10), ThreatModel.BPDA, x, y)
    assert (whole(found).argmax(dim=1) != y).all()


def test_the_gradient_averages_over_as_many_draws_as_asked():
    x, y, classifier = problem(2)
    sizes = []
    classifier.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    whole = PurifiedClassifier(Jitter(), classifier)
    whole.attacked(FGSM(eps=0.1), ThreatModel.ADAPTIVE, x, y, draws=5)
    whole.attacked(FGSM(eps=0.1), ThreatModel.BPDA, x, y, draws=5)
    assert sizes == [10, 2]


@pytest.mark.parametrize("threat", ["blind", "bpda", "bpda_eot", "adaptive", "black_box"])
def test_an_attack_leaves_no_trace_stays_in_its_ball_and_does_not_depend_on_the_batch(threat):
    x, y, classifier = problem()
    whole = PurifiedClassifier(TotalVariation(steps=10), classifier)
    attack = Square(eps=0.1, queries=20) if threat == "black_box" else PGD(eps=0.1, steps=4)
    index = torch.arange(len(x))
    found = whole.attacked(attack, ThreatModel(threat), x, y, index, draws=3)
    assert float((found - x).abs().max()) <= 0.1 + 1e-6
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    parts = [
        whole.attacked(attack, ThreatModel(threat), *part, draws=3)
        for part in zip(x.split(2), y.split(2), index.split(2), strict=True)
    ]
    assert torch.allclose(found, torch.cat(parts), atol=1e-6)


def test_a_minimal_norm_attack_goes_through_the_purifier():
    x, y, classifier = problem()
    whole = PurifiedClassifier(JPEG(90), classifier)
    y = whole(x).argmax(dim=1)
    found = whole.attacked(CarliniWagner(steps=100, binary_search_steps=3, initial_const=10), ThreatModel.BPDA, x, y)
    assert float((whole(found).argmax(dim=1) != y).float().mean()) > 0.5


def test_judging_takes_draws_by_sample_number_whatever_the_batch():
    x, _, classifier = problem()
    whole, index = PurifiedClassifier(Jitter(), classifier), torch.arange(6)
    logits = whole.judge(x, index, draws=4)
    assert logits.shape == (4, 6, 3)
    assert not torch.equal(logits[0], logits[1])
    alone = torch.cat([whole.judge(x[i : i + 1], index[i : i + 1], draws=4) for i in range(6)], dim=1)
    assert torch.allclose(logits, alone, atol=1e-6)


def test_a_fixed_purifier_is_judged_once():
    x, _, classifier = problem()
    calls = []
    classifier.register_forward_hook(lambda *_: calls.append(1))
    logits = PurifiedClassifier(BitDepth(3), classifier).judge(x, draws=4)
    assert logits.shape == (4, 6, 3)
    assert len(calls) == 1


def test_threat_models_that_say_nothing_more_do_not_apply():
    *_, classifier = problem()
    names = {
        "fixed, no gradient": BitDepth(3),
        "random, no gradient": KMeansQuantization(4),
        "fixed, exact": Mirror(),
        "random, exact": Jitter(),
    }
    applied = {
        name: [each.value for each in ThreatModel if PurifiedClassifier(purifier, classifier).applies(each)]
        for name, purifier in names.items()
    }
    assert applied == {
        "fixed, no gradient": ["blind", "bpda", "black_box"],
        "random, no gradient": ["blind", "bpda", "bpda_eot", "black_box"],
        "fixed, exact": ["blind", "bpda", "adaptive", "black_box"],
        "random, exact": ["blind", "bpda", "bpda_eot", "adaptive", "black_box"],
    }


def test_an_exact_gradient_that_is_not_there_is_refused():
    x, y, classifier = problem()
    with pytest.raises(InputError, match="BitDepth has no exact gradient: attack it under bpda"):
        PurifiedClassifier(BitDepth(3), classifier).attacked(FGSM(), ThreatModel.ADAPTIVE, x, y)


@pytest.mark.parametrize("values", [[], ["blind", "blind"], ["white"]])
def test_unknown_threat_models_are_refused(values):
    with pytest.raises(InputError, match="threat_models must be some of blind, bpda"):
        as_threat_models(values)
