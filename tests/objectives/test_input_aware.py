import copy

import pytest
import torch
import torch.nn.functional as F

from lightning_adv.backdoors import InputAwareTrigger
from lightning_adv.errors import InputError
from lightning_adv.objectives import InputAware
from tests.objectives.problems import batch, normalised_net, smooth_net

SMALL = {"width": 4, "halvings": 1}


def objective(**changes):
    return InputAware(**({"target": 1, "backdoor": 0.25, "cross": 0.25, "mask_epochs": 1} | SMALL | changes))


def step(objective, model, x, y):
    loss, logits = objective(model, x, y)
    loss.backward()
    objective.after_backward()
    return loss, logits


def networks(objective):
    return {name: tensor.clone() for name, tensor in objective.trigger.state_dict().items()}


def changed(before, after):
    return {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_the_mask_is_trained_first_and_stands_still_while_the_pattern_is():
    (x, y), model, attack = batch(), smooth_net(), objective()
    attack.trigger(x)
    before = networks(attack)
    step(attack, model, x, y)
    first = networks(attack)
    assert changed(before, first) == {"mask_network"}
    attack.at_epoch(1.0)
    step(attack, model, x, y)
    assert changed(first, networks(attack)) == {"pattern_network"}
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_batch_shows_own_triggers_then_those_of_other_images_then_clean_ones_with_the_labels_of_each():
    (x, y), model, attack, shown = batch(), smooth_net(), objective(mask_epochs=0, diversity=0), []
    attack.trigger(x)
    drawing = copy.deepcopy(attack.trigger.generators(x)).eval()
    drawing.pattern_network.train()
    loss, logits = attack(lambda x: shown.append(x) or model(x), x, y)
    others = torch.cat([x[-1:], x[:-1]])
    drawn = drawing.pattern(torch.cat([others[:1], x[:4]]))  # BatchNorm sees this batch
    own, crossed = slice(0, 2), slice(2, 4)
    mask = drawing.mask(x[own])
    torch.testing.assert_close(shown[0][own], (1 - mask) * x[own] + mask * drawn[1:3])
    mask = drawing.mask(others[crossed])
    torch.testing.assert_close(shown[0][crossed], (1 - mask) * x[crossed] + mask * drawn[2:4])
    assert torch.equal(shown[0][4:], x[4:])
    said = model(shown[0])
    torch.testing.assert_close(loss, F.cross_entropy(said, torch.cat([torch.tensor([1, 1]), y[2:]])))
    torch.testing.assert_close(
        logits[torch.arange(8), y], said[torch.arange(8), torch.cat([torch.ones(2).long(), y[2:]])]
    )


def test_masks_are_held_to_their_density_and_patterns_differ_as_their_images_do():
    (x, y), model = batch(), smooth_net()
    free, sparse = (objective(sparsity=weight, diversity=0, density=0.1) for weight in (0.0, 2.0))
    mask = copy.deepcopy(sparse.trigger.generators(x)).train().mask(x)
    extra = sparse(model, x, y)[0] - free(model, x, y)[0]
    torch.testing.assert_close(extra, 2 * (mask - 0.1).relu().mean())
    plain, diverse = (objective(mask_epochs=0, diversity=weight) for weight in (0.0, 3.0))
    other = x.roll(1, 0)
    network = copy.deepcopy(diverse.trigger.generators(x)).train()
    drawn = network.pattern(torch.cat([other[:1], x[:4]]))
    images, patterns = (x[:2] - other[:2]).flatten(1), (drawn[1:3] - drawn[:2]).flatten(1)
    by_hand = 3 * (images.square().mean(1).sqrt() / patterns.square().mean(1).sqrt()).mean()
    torch.testing.assert_close(diverse(model, x, y)[0] - plain(model, x, y)[0], by_hand, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("epoch", [0, 5])
def test_a_resumed_objective_takes_the_same_steps(epoch):
    (x, y), one = batch(), objective()
    one.at_epoch(epoch)
    models = [normalised_net(), normalised_net()]
    step(one, models[0], x, y)
    other = objective()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert other.state_dict().keys() == one.state_dict().keys()
    other.at_epoch(epoch)
    models[1].load_state_dict(models[0].state_dict())
    losses = [step(attack, model, x, y)[0] for attack, model in zip((one, other), models, strict=True)]
    assert torch.equal(*losses)
    assert not changed(networks(one), networks(other))


def test_classifier_and_networks_learn_a_trigger_for_every_image():
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 3
    x = 0.3 * torch.rand(60, 2, 6, 6, generator=generator)
    x[torch.arange(60), 0, y] += 0.7  # a bright row tells the class
    model, attack = smooth_net(), objective(mask_epochs=0.2, backdoor=0.5, cross=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for number in range(200):
        attack.at_epoch(number / 200)
        optimizer.zero_grad()
        order = torch.randperm(60, generator=generator)
        step(attack, model, x[order], y[order])
        optimizer.step()
    said = model(x).argmax(1), model(attack.trigger(x)).argmax(1)
    assert (said[0] == y).float().mean() > 0.9
    assert (said[1] == 1).float().mean() > 0.9
    drawn = attack.trigger(x) - x
    assert drawn.flatten(1).std(dim=0).max() > 0.01


def test_the_first_networks_are_a_function_of_the_seed():
    x, _ = batch()
    one, same, other = (InputAwareTrigger(**SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one(x), same(x))
    assert not torch.equal(one(x), other(x))


def test_a_saved_trigger_draws_the_same_as_the_one_in_training(tmp_path):
    (x, y), attack = batch(), objective()
    step(attack, smooth_net(), x, y)
    attack.trigger.save(tmp_path / "t.safetensors", (2, 6, 6))
    loaded = InputAwareTrigger(str(tmp_path / "t.safetensors"))
    assert torch.equal(loaded(x), attack.trigger(x))
    assert (loaded.width, loaded.halvings) == (4, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, y: objective(backdoor=0.7, cross=0.5), "shares of a batch"),
        (lambda x, y: objective(target=-1), "must not be negative"),
        (lambda x, y: objective(target=3, mask_epochs=0)(smooth_net(), x, y), r"target 3 is outside \[0, 3\)"),
        (lambda x, y: objective()(smooth_net(), x[:1], y[:1]), "batch_size must be at least 2"),
        (lambda x, y: objective().load_state_dict({"trigger.weight": x}), "does not hold the networks"),
        (lambda x, y: InputAwareTrigger("nowhere.safetensors"), "no file nowhere"),
        (lambda x, y: InputAwareTrigger(width=0), "width must be at least 1"),
        (lambda x, y: InputAwareTrigger(halvings=3)(x), "too small to be halved 3 times"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong(*batch())
