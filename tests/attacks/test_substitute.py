"""A substitute learns from labels alone, within its queries, and what is crafted on it transfers."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import FGSM, PGD, CarliniWagner, SubstituteAttack
from lightning_adv.errors import InputError
from lightning_adv.victims import CountedOracle, DecisionTreeVictim, LogisticRegressionVictim
from tests.victims.problems import CLASSES, brightness, stripes


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def attack(**options: object) -> SubstituteAttack:
    return SubstituteAttack(**({"attack": FGSM(eps=0.3), "substitute": net(), "lr": 0.01, "rounds": 3} | options))


class Asked:
    """Notes the images that a victim was shown."""

    def __init__(self, victim: nn.Module) -> None:
        self.victim, self.batches = victim, []

    def __call__(self, x: Tensor) -> Tensor:
        self.batches.append(x.clone())
        return self.victim(x).argmax(dim=1)


def test_images_crafted_on_the_substitute_fool_the_oracle():
    victim = LogisticRegressionVictim().fit(*stripes(300))
    x, y = stripes(90, seed=1)
    crafted = attack().fit(victim, stripes(30, seed=2)[0], CLASSES).run(victim, x, y)
    assert (victim(x).argmax(dim=1) == y).double().mean() > 0.9
    assert crafted.success.double().mean() > 0.8
    assert (crafted.images - x).abs().max() <= 0.3 + 1e-6


def test_each_round_doubles_the_set_along_the_jacobian_of_the_label():
    asked = Asked(LogisticRegressionVictim().fit(*stripes(300)))
    learnt = attack(rounds=2, augmentation_step=0.1).fit(asked, stripes(12)[0], CLASSES)
    assert [len(batch) for batch in asked.batches] == [12, 12, 24]
    assert [each.images for each in learnt.history] == [12, 24, 48]
    step = (asked.batches[1] - asked.batches[0]).abs()
    assert (step.amax(dim=(1, 2, 3)) <= 0.1 + 1e-6).all()
    inside = (asked.batches[0] > 0.1) & (asked.batches[0] < 0.9)
    torch.testing.assert_close(step[inside], torch.full_like(step[inside], 0.1), atol=1e-5, rtol=0)


def test_the_step_turns_after_its_period():
    def steps(period: int | None) -> list[Tensor]:
        asked = Asked(LogisticRegressionVictim().fit(*stripes(300)))
        attack(rounds=2, period=period, epochs=1).fit(asked, stripes(12)[0].clamp(0.3, 0.7), CLASSES)
        return [asked.batches[2] - torch.cat(asked.batches[:2])]

    torch.testing.assert_close(steps(1)[0], -steps(None)[0], atol=1e-5, rtol=0)


def test_a_reservoir_bounds_what_a_late_round_adds():
    learnt = attack(rounds=4, reservoir=10, reservoir_after=2, epochs=1).fit(brightness, stripes(12)[0], CLASSES)
    assert [each.images for each in learnt.history] == [12, 24, 48, 58, 68]


def test_it_stops_at_its_queries():
    oracle = CountedOracle(brightness, budget=40)
    learnt = attack(rounds=6, queries=40, epochs=1).fit(oracle, stripes(12)[0], CLASSES)
    assert [each.images for each in learnt.history] == [12, 24, 40]
    assert oracle.spent <= 40


def test_an_interrupted_fit_pays_for_no_label_twice_and_gives_the_same_substitute(tmp_path):
    victim = DecisionTreeVictim().fit(*stripes(300))
    seeds, x = stripes(12)[0], stripes(6, seed=3)[0]
    whole = attack().fit(victim, seeds, CLASSES).model

    class Fails(Asked):
        def __call__(self, x: Tensor) -> Tensor:
            if len(self.batches) == 3:
                raise TimeoutError("no answer")
            return super().__call__(x)

    log = tmp_path / "queries.jsonl"
    with pytest.raises(InputError, match="TimeoutError"):
        attack().fit(CountedOracle(failing := Fails(victim), log=log), seeds, CLASSES)
    asked = Asked(victim)
    resumed = attack().fit(CountedOracle(asked, log=log), seeds, CLASSES).model
    paid, more = (torch.cat(each.batches).flatten(1).tolist() for each in (failing, asked))
    assert len(paid) == 12 * 4
    assert not {tuple(row) for row in paid} & {tuple(row) for row in more}
    assert torch.equal(resumed(x), whole(x))


@pytest.mark.parametrize("crafter", [PGD(eps=0.3, steps=3), CarliniWagner(steps=20, binary_search_steps=1)], ids=repr)
def test_any_attack_crafts_on_it_and_a_sample_does_not_depend_on_its_batch(crafter):
    learnt = attack(attack=crafter, rounds=1).fit(brightness, stripes(12)[0], CLASSES)
    x, y = stripes(6, seed=4)
    index = torch.arange(6) + 40
    together = learnt.run(brightness_logits, x, y, index=index).images
    alone = torch.cat(
        [learnt.run(brightness_logits, x[i : i + 1], y[i : i + 1], index=index[i : i + 1]).images for i in range(6)]
    )
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def brightness_logits(x: Tensor) -> Tensor:
    return nn.functional.one_hot(brightness(x), CLASSES).float()


def test_fitting_leaves_the_generators_and_the_given_network_alone():
    given = net()
    before, state = [weight.clone() for weight in given.parameters()], torch.get_rng_state()
    attack(substitute=given, rounds=1).fit(brightness, stripes(12)[0], CLASSES)
    assert all(torch.equal(old, new) for old, new in zip(before, given.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_a_backbone_is_made_by_its_name():
    learnt = SubstituteAttack(FGSM(eps=0.1), "mnist_cnn", rounds=1, epochs=1).fit(brightness, stripes(12)[0], CLASSES)
    assert learnt.model(stripes(2)[0]).shape == (2, CLASSES)


def test_mistakes_are_named():
    x, y = stripes(6)
    with pytest.raises(InputError, match="call fit"):
        attack()(brightness_logits, x, y)
    with pytest.raises(InputError, match="only 5 queries"):
        attack(queries=5).fit(brightness, x, CLASSES)
    with pytest.raises(InputError, match="num_classes is 2"):
        attack().fit(lambda x: torch.arange(len(x)), x, 2)
    with pytest.raises(InputError, match="seed set must be images"):
        attack().fit(brightness, 255 * x, CLASSES)
    with pytest.raises(InputError, match="epochs must be at least 1"):
        attack(epochs=0)
