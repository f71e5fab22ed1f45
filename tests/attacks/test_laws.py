"""What holds for every attack, whatever its equation."""

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.attacks import PGD, DeviceNoise

from .problems import (
    ATTACKS,
    ENTRY_POINTS,
    EPS,
    RANDOM,
    Moody,
    corner_images,
    excess,
    images,
    smooth_cnn,
    tilted_problem,
    traces,
)

every_attack = pytest.mark.parametrize("name", ATTACKS)
every_entry_point = pytest.mark.parametrize("entry", ENTRY_POINTS)
ROUNDING = {"Linf": 1e-6, "L2": 1e-6, "L1": 1e-5}  # L1 adds up the float32 rounding of 72 pixels


def classified(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x.to(next(model.parameters()).dtype)).argmax(dim=1)


@every_attack
@every_entry_point
@pytest.mark.parametrize("make", [images, corner_images])
def test_stays_in_the_ball_and_in_the_box(name, entry, make):
    model, x = smooth_cnn(), make()
    x_adv = ENTRY_POINTS[entry](ATTACKS[name], model, x, classified(model, x))
    assert x_adv.shape == x.shape
    assert x_adv.dtype == torch.float32
    assert 0 <= x_adv.min() <= x_adv.max() <= 1
    assert excess(ATTACKS[name], x, x_adv) <= ROUNDING[ATTACKS[name].norm]


@every_attack
@every_entry_point
def test_moves_the_images_without_asking_for_a_gradient_on_them(name, entry):
    model, x, y = tilted_problem()
    x_adv = ENTRY_POINTS[entry](ATTACKS[name], model, x, y)
    assert not x_adv.requires_grad
    assert ((x_adv - x).flatten(1).abs().amax(dim=1) > 1e-3).all()


@every_attack
@every_entry_point
def test_without_a_budget_the_images_stay_where_they_are(name, entry):
    model, x = smooth_cnn(), corner_images()
    x_adv = ENTRY_POINTS[entry](ATTACKS[name].scaled(0), model, x, classified(model, x))
    assert torch.equal(x_adv, x)


@every_attack
@every_entry_point
def test_leaves_no_trace(name, entry):
    model, x = Moody(), images()
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    given, before = (x.clone(), y.clone()), traces(model)
    ENTRY_POINTS[entry](ATTACKS[name], model, x, y)
    assert traces(model) == before
    assert torch.equal(x, given[0])
    assert torch.equal(y, given[1])


@every_attack
@every_entry_point
def test_leaves_no_trace_when_the_model_breaks_down(name, entry):
    model, x = Moody(), images()
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    before = traces(model)
    ENTRY_POINTS[entry](ATTACKS[name], model, x, y)
    model.fails_at, model.forwards = min(3, model.forwards), 0  # the third forward, or the last of a shorter attack
    with pytest.raises(RuntimeError, match="broke down"):
        ENTRY_POINTS[entry](ATTACKS[name], model, x, y)
    assert traces(model) == before


@pytest.mark.filterwarnings("ignore:the model answers differently")
@pytest.mark.parametrize("entry", ["call", "run", "craft-eval", "craft-train"])
def test_leaves_no_trace_of_a_model_that_is_random_in_eval_mode_too(entry):
    class Jitter(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 0.01 * torch.randn_like(x)).flatten(1)[:, :3]

    before = torch.get_rng_state()
    ENTRY_POINTS[entry](ATTACKS["pgd-Linf-uniform"], Jitter(), images(), torch.zeros(6, dtype=torch.int64))
    assert torch.equal(torch.get_rng_state(), before)


@every_attack
@every_entry_point
def test_a_model_in_eval_mode_has_no_dropout_and_in_train_mode_has_it(name, entry):
    model, seen = Moody(), []
    model.features[6].register_forward_hook(lambda module, args, output: seen.append(torch.equal(args[0], output)))
    ENTRY_POINTS[entry](ATTACKS[name], model, images(), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert set(seen) == {entry != "craft-train"}


@pytest.mark.parametrize("entry", ["call", "run"])
@every_attack
def test_a_batch_of_n_is_n_batches_of_one(name, entry):
    model, x, y = tilted_problem()
    index = torch.arange(len(x)) * 17 + 3
    attack = ATTACKS[name]
    if entry == "call":
        whole = attack(model, x, y, index=index)
        alone = torch.cat([attack(model, *one[:2], index=one[2]) for one in zip_samples(x, y, index)])
        torch.testing.assert_close(whole, alone, rtol=0, atol=1e-6)
        return
    whole = attack.run(model, x, y, index=index)
    singles = [attack.run(model, *one[:2], index=one[2]) for one in zip_samples(x, y, index)]
    for field in ("success", "restart", "zero_gradient"):
        assert torch.equal(getattr(whole, field), torch.cat([getattr(one, field) for one in singles])), field
    torch.testing.assert_close(whole.images, torch.cat([one.images for one in singles]), rtol=0, atol=1e-6)
    torch.testing.assert_close(whole.logits, torch.cat([one.logits for one in singles]), rtol=1e-4, atol=1e-5)


def zip_samples(x: Tensor, y: Tensor, index: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    return list(zip(x.split(1), y.split(1), index.split(1), strict=True))


# One step is too few to drop any, and NIFGSM does not look at the images that it makes but ahead of them.
@pytest.mark.parametrize("name", [name for name in ATTACKS if not name.startswith(("fgsm", "hyperplane", "nifgsm"))])
def test_the_samples_of_that_law_are_partly_robust_and_partly_dropped_early(name):
    model, x, y = tilted_problem()
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    success = ATTACKS[name].run(model, x, y).success
    assert 0 < success.sum() < len(x)
    assert min(sizes) < max(sizes) == len(x)


@every_attack
def test_the_order_of_the_batch_does_not_matter(name):
    model, x, y = tilted_problem()
    index, order = torch.arange(len(x)), torch.arange(len(x)).flip(0)
    there = ATTACKS[name].run(model, x, y, index=index)
    back = ATTACKS[name].run(model, x[order], y[order], index=index[order])
    assert torch.equal(there.success[order], back.success)
    assert torch.equal(there.restart[order], back.restart)
    torch.testing.assert_close(there.images[order], back.images, rtol=0, atol=1e-6)


@every_attack
@every_entry_point
def test_a_second_call_gives_the_same_bits(name, entry):
    model, x, y = tilted_problem()
    first, second = (ENTRY_POINTS[entry](ATTACKS[name], model, x, y) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_gives_another_start(name):
    model, x, y = tilted_problem()
    attack, other = ATTACKS[name].scaled(1), ATTACKS[name].scaled(1)
    attack.step_size = other.step_size = 0.0  # the start alone: the steps may lead both to the same corner
    other.seed = 1
    assert not torch.equal(attack(model, x, y), other(model, x, y))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_training_steps_in_a_row_start_from_different_noise(mode):
    model, x, y = tilted_problem()
    # Short steps: long ones end in the same corner of the ball wherever they start.
    attack = PGD(eps=EPS["Linf"], step_size=EPS["Linf"] / 10, steps=2)
    first, second = (attack.craft(model, x, y, mode=mode) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_training_repeats_itself_from_the_same_global_seed(mode):
    x, y = images(), torch.tensor([0, 1, 2, 0, 1, 2])
    crafted = []
    for _ in range(2):
        model = Moody()
        torch.manual_seed(11)
        crafted.append(ATTACKS["pgd-Linf-uniform"].craft(model, x, y, mode=mode))
    assert torch.equal(*crafted)


def test_noise_kept_over_training_steps_goes_on():
    model, x, y = tilted_problem()
    noise, attack = DeviceNoise(), PGD(eps=EPS["Linf"], step_size=EPS["Linf"] / 10, steps=2)  # short steps, as above
    first, second = (attack.craft(model, x, y, noise=noise, mode="train") for _ in range(2))
    assert not torch.equal(first, second)


@every_attack
@every_entry_point
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(name, entry, context):
    model, x, y = tilted_problem()
    outside = ENTRY_POINTS[entry](ATTACKS[name], model, x, y)
    with context():
        inside = ENTRY_POINTS[entry](ATTACKS[name], model, x.clone(), y.clone())  # inference tensors, as in a loader
        assert not torch.is_grad_enabled()
    assert not inside.is_inference()
    assert torch.equal(outside, inside)


class SeesFloat32(nn.Module):
    """Fails if the attack hands over images of a lower precision than float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        return self.model(x)


def raised_loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    def loss(images: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(images.double()), y, reduction="none")

    with torch.no_grad():
        return loss(x_adv) - loss(x)


@every_attack
@every_entry_point
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_keeps_its_state_in_float32_under_autocast(name, entry, dtype):
    exact, x, y = tilted_problem()
    model = SeesFloat32(smooth_cnn().float())
    model.model.load_state_dict(exact.state_dict())
    with torch.autocast("cpu", dtype=dtype):
        x_adv = ENTRY_POINTS[entry](ATTACKS[name], model, x, y)
    assert x_adv.dtype == torch.float32
    assert excess(ATTACKS[name], x, x_adv) <= ROUNDING[ATTACKS[name].norm]
    assert (raised_loss(exact, x, x_adv, y) > 0).all()


@every_attack
@every_entry_point
def test_attacks_a_model_whose_weights_are_bfloat16(name, entry):
    exact, x, y = tilted_problem()
    model = smooth_cnn().to(torch.bfloat16)
    model.load_state_dict(exact.state_dict())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # as a trainer in true half precision does
    try:
        x_adv = ENTRY_POINTS[entry](ATTACKS[name], model, x.bfloat16(), y)
    finally:
        torch.set_default_dtype(before)
    assert x_adv.dtype == torch.float32
    assert excess(ATTACKS[name], x.bfloat16().float(), x_adv) <= ROUNDING[ATTACKS[name].norm]
    assert (raised_loss(exact, x.bfloat16().float(), x_adv, y) > 0).all()


@every_attack
@every_entry_point
def test_channels_last_gives_the_same_images(name, entry):
    model, x, y = tilted_problem()
    plain = ENTRY_POINTS[entry](ATTACKS[name], model, x, y)
    model = model.to(memory_format=torch.channels_last)
    other = ENTRY_POINTS[entry](ATTACKS[name], model, x.to(memory_format=torch.channels_last), y)
    torch.testing.assert_close(plain, other, rtol=0, atol=1e-6)


@every_attack
def test_a_plain_function_is_a_model(name):
    model, x, y = tilted_problem()
    function = ATTACKS[name].run(lambda images: model(images.double()), x, y)
    module = ATTACKS[name].run(model, x, y)
    assert torch.equal(function.images, module.images)
    assert torch.equal(function.success, module.success)


# torch hides this from users by other means than a filter, which would turn it into an error here.
of_a_copy = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture(scope="module")
def traced() -> nn.Module:
    """The backend without code generation: what tracing itself can break (modes, frozen weights, guards, shapes)."""
    torch.compiler.reset()
    return torch.compile(tilted_problem()[0].float(), backend="aot_eager")


@pytest.mark.parametrize("name", [name for name in ATTACKS if name.startswith("fgsm") or name.endswith("restarts")])
@every_entry_point
@of_a_copy
def test_a_traced_model_gives_the_same_images(traced, name, entry):
    model, x, y = tilted_problem()
    plain = ENTRY_POINTS[entry](ATTACKS[name], model.float(), x, y)
    torch.testing.assert_close(ENTRY_POINTS[entry](ATTACKS[name], traced, x, y), plain, rtol=0, atol=1e-6)


@of_a_copy
def test_a_compiled_model_gives_the_same_images(monkeypatch):
    monkeypatch.setenv("_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR", "")  # inductor sets it and leaves it behind
    torch.compiler.reset()
    model, x, y = tilted_problem()
    compiled, attack = torch.compile(model.float()), ATTACKS["pgd-Linf-restarts"]
    plain, fast = attack.run(model, x, y), attack.run(compiled, x, y)
    assert torch.equal(plain.success, fast.success)
    torch.testing.assert_close(fast.images, plain.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(attack(compiled, x, y), attack(model, x, y), rtol=0, atol=1e-5)
