"""What holds for every attack, whatever its equation: asked of all records in problems.py whose flags allow it."""

import ast
import copy
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.asking import asked_at_once
from lightning_adv.attacks import PGD, DeviceNoise, Square
from tests.source_tree import source_files, syntax

from .laws import (
    LABELS,
    any_model,
    asks,
    assert_in_ball_and_box,
    classified,
    crafted,
    every,
    every_entry,
    made,
    outcome,
    run,
    speaks_for_its_kind,
)
from .problems import (
    ENTRY_POINTS,
    EPS,
    RECORDS,
    Moody,
    corner_images,
    images,
    smooth_cnn,
    tilted_problem,
    traces,
)


def test_every_attack_of_the_package_is_on_record():
    bases = {}
    for path in source_files():
        for node in syntax(path).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base) for base in node.bases}
    attacks = {"Attack"}
    while more := {name for name, own in bases.items() if own & attacks} - attacks:
        attacks |= more
    # A trigger as an attack does not look for anything: tests/backdoors/test_triggered.py.
    assert attacks - {"Attack", "Wrapper", "Triggered"} == {type(record.attack).__name__ for record in RECORDS.values()}


@every_entry()
def test_moves_the_images_within_the_ball_and_the_box_and_asks_no_gradient_on_them(name, entry):
    model, x, y = RECORDS[name].problem()
    x_adv = crafted(name, entry)
    assert_in_ball_and_box(name, x, x_adv)
    assert not x_adv.requires_grad
    may_stay = classified(model, x_adv) == y if RECORDS[name].stays else torch.zeros(len(x), dtype=torch.bool)
    assert (may_stay | ((x_adv - x).flatten(1).abs().amax(dim=1) > 1e-3)).all()


@every_entry(any_model)
def test_stays_there_from_the_corners_of_the_box(name, entry):
    model, x = smooth_cnn(), corner_images()
    assert_in_ball_and_box(name, x, made(name, entry, model, x, classified(model, x)))


@every_entry(lambda record: record.attack.has_budget)
def test_without_a_budget_the_images_stay_where_they_are(name, entry):
    model, x = smooth_cnn(), corner_images()
    x_adv = ENTRY_POINTS[entry](RECORDS[name].attack.scaled(0), model, x, classified(model, x))
    assert torch.equal(x_adv, x)


@every_entry(any_model, judged=("run", "craft-eval", "craft-train"))
def test_leaves_no_trace(name, entry):
    model, x, y = Moody(), images(), LABELS.clone()
    given, before = x.clone(), traces(model)
    made(name, entry, model, x, y)
    assert traces(model) == before
    assert torch.equal(x, given)
    assert torch.equal(y, LABELS)
    if RECORDS[name].asks or model.forwards:
        model.fails_at, model.forwards = min(3, model.forwards), 0  # the third forward, or the last of a shorter attack
        with pytest.raises(RuntimeError, match="broke down"):
            made(name, entry, model, x, y)
        assert traces(model) == before


@pytest.mark.filterwarnings("ignore:the model answers differently")
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_leaves_no_trace_of_a_model_that_is_random_in_eval_mode_too(entry):
    class Jitter(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 0.01 * torch.randn_like(x)).flatten(1)[:, :3]

    before = torch.get_rng_state()
    made("pgd-Linf-uniform", entry, Jitter(), images(), torch.zeros(6, dtype=torch.int64))
    assert torch.equal(torch.get_rng_state(), before)


@every_entry(lambda record: asks(record) and speaks_for_its_kind(record), judged=("run", "craft-train"))
def test_a_model_in_eval_mode_has_no_dropout_and_in_train_mode_has_it(name, entry):
    model, seen = Moody(), []
    model.features[6].register_forward_hook(lambda module, args, output: seen.append(torch.equal(args[0], output)))
    made(name, entry, model, images(), LABELS)
    assert set(seen) == {entry != "craft-train"}


@every()
def test_neither_the_size_of_the_batch_nor_its_order_matters(name):
    """Samples are told apart by their numbers: here one alone, then four, then seven, from the last to the first."""
    model, x, y = RECORDS[name].problem()
    attack, whole, rounding = RECORDS[name].attack, outcome(name), RECORDS[name].rounding
    parts = [each.tolist() for each in torch.arange(len(x)).flip(0).split([1, 4, 7])]
    found = [attack.run(model, x[rows], y[rows], index=torch.tensor(rows)) for rows in parts]
    back = torch.arange(len(x)).flip(0)
    for field in ("success", "restart", "zero_gradient"):
        assert torch.equal(torch.cat([getattr(part, field) for part in found])[back], getattr(whole, field)), field
    torch.testing.assert_close(torch.cat([part.images for part in found])[back], whole.images, rtol=0, atol=rounding)
    logits = torch.cat([part.logits for part in found])[back]
    torch.testing.assert_close(logits, whole.logits, rtol=1e-4, atol=max(1e-5, rounding))
    if RECORDS[name].is_judged:
        return
    called = [attack(model, x[rows], y[rows], index=torch.tensor(rows)) for rows in parts]
    torch.testing.assert_close(torch.cat(called)[back], crafted(name, "call"), rtol=0, atol=rounding)


@every()
def test_a_model_that_is_asked_about_few_images_at_once_gives_the_same(name):
    record, whole = RECORDS[name], outcome(name)
    model, x, y = record.problem()
    sizes = [0]
    for layer in islice(model.children(), 1):  # a tree has none
        layer.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    with asked_at_once(5):
        found = record.attack.run(model, x, y)
    assert max(sizes) <= 5 * record.attack.draws
    assert torch.equal(found.success, whole.success)
    assert torch.equal(found.restart, whole.restart)
    torch.testing.assert_close(found.images, whole.images, rtol=0, atol=record.rounding)


@every(lambda record: record.is_judged and speaks_for_its_kind(record))
def test_calling_an_attack_that_judges_its_images_gives_those_of_a_run(name):
    model, x, y = RECORDS[name].problem()
    assert torch.equal(RECORDS[name].attack(model, x, y), outcome(name).images)


@every(lambda record: record.drops)
def test_the_samples_of_that_law_are_partly_robust_and_partly_dropped_early(name):
    model, x, y = tilted_problem()
    sizes: list[int] = []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    success = RECORDS[name].attack.run(model, x, y).success
    assert success.sum() > 0
    assert RECORDS[name].attack.eps is None or success.sum() < len(x)
    assert min(sizes) < max(sizes) == len(x) * RECORDS[name].attack.draws


@every(speaks_for_its_kind)
def test_a_pickled_copy_gives_the_same_bits_and_describes_itself_alike(name):
    attack = RECORDS[name].attack
    for twin in (pickle.loads(pickle.dumps(attack)), copy.deepcopy(attack)):
        assert repr(twin) == repr(attack)
    assert torch.equal(twin.run(*RECORDS[name].problem()).images, outcome(name).images)


@every(lambda record: record.random)
def test_another_seed_gives_another_start(name):
    model, x, y = tilted_problem()
    attack = copy.deepcopy(RECORDS[name].attack)
    held = getattr(attack, "attack", attack)
    if held.step_size is not None:
        held.step_size = 0.0  # the start alone: the steps may lead both to the same corner
    other = copy.copy(attack)
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
    results = []
    for _ in range(2):
        model = Moody()
        torch.manual_seed(11)
        results.append(RECORDS["pgd-Linf-uniform"].attack.craft(model, images(), LABELS, mode=mode))
    assert torch.equal(*results)


def test_noise_kept_over_training_steps_goes_on():
    model, x, y = tilted_problem()
    noise, attack = DeviceNoise(), PGD(eps=EPS["Linf"], step_size=EPS["Linf"] / 10, steps=2)  # short steps, as above
    first, second = (attack.craft(model, x, y, noise=noise, mode="train") for _ in range(2))
    assert not torch.equal(first, second)


@every_entry(speaks_for_its_kind, judged=("run", "craft-train"))
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_second_call_where_gradients_are_off_gives_the_same_bits(name, entry, context):
    model, x, y = RECORDS[name].problem()
    with context():
        inside = made(name, entry, model, x.clone(), y.clone())  # inference tensors, as in a loader
        assert not torch.is_grad_enabled()
    assert not inside.is_inference()
    assert torch.equal(crafted(name, entry), inside)


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


@every_entry(lambda record: record.any_model and speaks_for_its_kind(record))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_keeps_its_state_in_float32_under_autocast(name, entry, dtype):
    exact, x, y = tilted_problem()
    model = SeesFloat32(smooth_cnn().float())
    model.model.load_state_dict(exact.state_dict())
    with torch.autocast("cpu", dtype=dtype):
        x_adv = made(name, entry, model, x, y)
    assert_in_ball_and_box(name, x, x_adv)
    assert not RECORDS[name].climbs or (raised_loss(exact, x, x_adv, y) > 0).all()


@contextmanager
def default_bfloat16() -> Iterator[None]:
    """As a trainer in true half precision sets it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@every_entry(lambda record: record.any_model and speaks_for_its_kind(record))
def test_attacks_a_model_whose_weights_are_bfloat16(name, entry):
    exact, x, y = tilted_problem()
    model = smooth_cnn().to(torch.bfloat16)
    model.load_state_dict(exact.state_dict())
    with default_bfloat16():
        x_adv = made(name, entry, model, x.bfloat16(), y)
    x = x.bfloat16().float()
    assert_in_ball_and_box(name, x, x_adv)
    assert not RECORDS[name].climbs or (raised_loss(exact, x, x_adv, y) > 0).all()


@every(lambda record: speaks_for_its_kind(record) or isinstance(record.attack, Square))
def test_the_default_precision_blurs_nothing(name):
    model, x, y = RECORDS[name].problem()
    with default_bfloat16():
        x_adv = run(name, model, x, y).images
    assert x_adv.dtype == torch.float32
    assert torch.equal(x_adv, outcome(name).images)


@every(speaks_for_its_kind)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_images_of_any_float_type_are_taken_for_the_numbers_that_they_are(name, dtype):
    model, x, y = RECORDS[name].problem()
    expected = outcome(name) if dtype is torch.float64 else run(name, model, x.to(dtype).float(), y)
    found = run(name, model, x.to(dtype), y)
    assert torch.equal(found.images, expected.images)
    assert found.images.dtype == found.logits.dtype == torch.float32


@every_entry(lambda record: record.any_model and speaks_for_its_kind(record))
def test_channels_last_gives_the_same_images(name, entry):
    model, x, y = tilted_problem()
    model = model.to(memory_format=torch.channels_last)
    other = made(name, entry, model, x.to(memory_format=torch.channels_last), y)
    torch.testing.assert_close(crafted(name, entry), other, rtol=0, atol=RECORDS[name].rounding)


@every(lambda record: record.any_model and speaks_for_its_kind(record))
def test_a_plain_function_is_a_model(name):
    model, x, y = tilted_problem()
    function = run(name, lambda images: model(images.double()), x, y)
    assert torch.equal(function.images, outcome(name).images)
    assert torch.equal(function.success, outcome(name).success)


class Brightness(nn.Module):
    """Always class 0, by a margin that the brightness of the pixels changes."""

    def forward(self, x: Tensor) -> Tensor:
        doubt = x.flatten(1).mean(dim=1)
        return torch.stack([10 - doubt, doubt, doubt - 1], dim=1)


@every(lambda record: asks(record) and (speaks_for_its_kind(record) or isinstance(record.attack, Square)))
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 2, 9), (1, 11, 3), (2, 5, 5)])
def test_images_of_any_shape_are_attacked(name, shape):
    x = 0.5 * torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    x_adv = RECORDS[name].attack(Brightness(), x, torch.zeros(4, dtype=torch.int64))
    assert_in_ball_and_box(name, x, x_adv)
    assert RECORDS[name].stays or (x_adv != x).any()


# torch hides this from users by other means than a filter, which would turn it into an error here.
of_a_copy = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture(scope="module")
def traced() -> nn.Module:
    """The backend without code generation: what tracing itself can break (modes, frozen weights, guards, shapes)."""
    torch.compiler.reset()
    return torch.compile(tilted_problem()[0].float(), backend="aot_eager")


@pytest.mark.parametrize(
    "name", [name for name in RECORDS if name.startswith("fgsm") or (name.startswith("pgd") and "restarts" in name)]
)
@pytest.mark.parametrize("entry", ENTRY_POINTS)
@of_a_copy
def test_a_traced_model_gives_the_same_images(traced, name, entry):
    model, x, y = tilted_problem()
    plain = made(name, entry, model.float(), x, y)
    torch.testing.assert_close(made(name, entry, traced, x, y), plain, rtol=0, atol=1e-6)


@of_a_copy
def test_a_compiled_model_gives_the_same_images(monkeypatch):
    # From its usual cache torch takes code for wider vectors than this run may use, which then does not compile.
    kept = f"torchinductor_{os.getuid()}_{torch.backends.cpu.get_cpu_capability()}"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / kept))
    monkeypatch.setenv("_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR", "")  # inductor sets it and leaves it behind
    torch.compiler.reset()
    model, x, y = tilted_problem()
    compiled, attack = torch.compile(model.float()), RECORDS["pgd-Linf-restarts"].attack
    plain, fast = attack.run(model, x, y), attack.run(compiled, x, y)
    assert torch.equal(plain.success, fast.success)
    torch.testing.assert_close(fast.images, plain.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(attack(compiled, x, y), attack(model, x, y), rtol=0, atol=1e-5)
