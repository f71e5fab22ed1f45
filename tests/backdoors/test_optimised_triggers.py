import pytest
import torch
from torch import nn

from lightning_adv.backdoors import (
    Narcissus,
    TrojanTrigger,
    UniversalPerturbation,
    optimise_narcissus,
    optimise_trojan,
    universal_perturbation,
)
from lightning_adv.errors import InputError

SHAPE = (1, 6, 6)


def linear_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


def sure_of_one(model):
    with torch.no_grad():
        model[1].bias[1] = 1000.0
    return model


def test_a_universal_perturbation_of_a_linear_model_is_the_sign_of_the_weights():
    # Two classes, no clipping: the closed form is eps sign(w_target - w_other).
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    images = torch.full((20, *SHAPE), 0.5)
    found = universal_perturbation(model, images, target=1, eps=0.1, steps=20, batch_size=8)
    weight = model[1].weight.detach()
    torch.testing.assert_close(found.v, 0.1 * (weight[1] - weight[0]).sign().view(SHAPE))


def test_a_universal_perturbation_leads_images_to_its_target_and_stays_in_its_budget(tmp_path):
    model, images = linear_model(), torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))
    found = universal_perturbation(model, images, target=2, eps=0.4, steps=50)
    led = (model(found(images)).argmax(1) == 2).float().mean()
    assert led > 0.9 > (model(images).argmax(1) == 2).float().mean()
    assert found.v.abs().max() <= 0.4 + 1e-6
    found.save(tmp_path / "v.safetensors", SHAPE)
    assert torch.equal(UniversalPerturbation(str(tmp_path / "v.safetensors")).v, found.v)


@pytest.mark.parametrize("warmup", [0, 40])
def test_the_noise_of_a_class_is_the_sign_of_its_weights_and_the_surrogate_stays_as_it_is(warmup):
    surrogate = linear_model().train()
    kept = {name: tensor.clone() for name, tensor in surrogate.state_dict().items()}
    images = torch.full((20, *SHAPE), 0.5)
    found = optimise_narcissus(surrogate, images, 1, eps=0.02, epochs=60, warmup_epochs=warmup, batch_size=8)
    others = kept["1.weight"][[0, 2]]  # softmax weighs the others, so the sign is clear where both agree
    above, below = ((kept["1.weight"][1] > others).all(0), (kept["1.weight"][1] < others).all(0))
    if warmup:  # a copy that was taught flat images has raised every weight of their class
        above, below = torch.ones_like(above), torch.zeros_like(below)
    assert above.sum() > 5
    torch.testing.assert_close(found.v.flatten()[above], torch.full((int(above.sum()),), 0.02))
    torch.testing.assert_close(found.v.flatten()[below], torch.full((int(below.sum()),), -0.02))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in surrogate.state_dict().items())
    assert surrogate.training
    assert all(weight.requires_grad and weight.grad is None for weight in surrogate.parameters())


def test_the_noise_of_a_class_is_magnified_where_it_is_told_to_and_kept_as_it_was_made(tmp_path):
    noise = Narcissus(v=torch.full(SHAPE, 0.1))
    noise.save(tmp_path / "n.safetensors", SHAPE)
    magnified = Narcissus(str(tmp_path / "n.safetensors"), magnify=3)
    torch.testing.assert_close(magnified(torch.full((1, *SHAPE), 0.5)), torch.full((1, *SHAPE), 0.8))
    assert Narcissus(v=noise.v, magnify=20).perturbation(SHAPE).max() == 1


def test_optimising_leaves_no_trace_on_the_model():
    model, state = linear_model().train(), torch.get_rng_state()
    optimise_trojan(model, "1", SHAPE, size=2, steps=3)
    universal_perturbation(model, torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)), 1, steps=3)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not model[1]._forward_hooks
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trojan_patch_excites_the_strongest_neurons_as_far_as_the_box_allows(tmp_path):
    model = linear_model()
    trigger = optimise_trojan(model, "1", SHAPE, size=3, neurons=1, value=100.0, steps=500)
    weight = model[1].weight.detach()
    strongest = int(weight.abs().sum(1).argmax())
    # 100 is out of reach, so the best patch in the box is white where the weight is positive and black elsewhere.
    expected = trigger.mask * (weight[strongest].view(SHAPE) > 0).float()
    torch.testing.assert_close(trigger.pattern, expected)
    trigger.save(tmp_path / "t.safetensors", SHAPE)
    assert torch.equal(TrojanTrigger(str(tmp_path / "t.safetensors")).pattern, trigger.pattern)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda m: optimise_trojan(m, "7", SHAPE), "no linear or convolutional layer '7'; it has 1"),
        (lambda m: optimise_trojan(m, "1", SHAPE, size=2, neurons=4), "has 3 neurons, 4 are to be excited"),
        (lambda m: optimise_trojan(m, "1", SHAPE, size=7), "does not fit"),
        (lambda m: universal_perturbation(m, torch.rand(2, *SHAPE), target=3), r"target 3 is outside \[0, 3\)"),
        (lambda m: universal_perturbation(m, torch.rand(0, *SHAPE), target=1), "needs images"),
        (lambda m: optimise_narcissus(m, torch.rand(2, *SHAPE), target=3), r"target 3 is outside \[0, 3\)"),
        (lambda m: optimise_narcissus(m, torch.rand(0, *SHAPE), target=1), "needs images of the target class"),
        (lambda m: optimise_narcissus(m, torch.rand(2, *SHAPE), 1, epochs=0), "epochs must be at least 1"),
        (lambda m: optimise_narcissus(sure_of_one(m), torch.rand(2, *SHAPE), 1, warmup_epochs=0), "sure of the class"),
        (lambda m: Narcissus(v=torch.zeros(SHAPE), magnify=0), "magnify must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong(linear_model())
