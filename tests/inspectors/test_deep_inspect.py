import math
import statistics

import pytest
import torch
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors import DeepInspect, find_outliers
from lightning_adv.inspectors.deep_inspect import _Found
from lightning_adv.inspectors.inversion import invert
from lightning_adv.inspectors.suspect import Suspect
from tests.inspectors.problems import PatchModel, block_images

pytestmark = pytest.mark.xdist_group("deep_inspect")  # one worker searches once

SHAPE, CLASSES, TARGET = (1, 12, 12), 7, 4
SMALL = {"steps": 150, "images_per_step": 48, "batch_size": 24, "hidden": 32, "draws": 20}


def inspected(target=TARGET, shape=SHAPE, **options):
    return DeepInspect(**(SMALL | options))(PatchModel(CLASSES, target), [block_images(shape, CLASSES)])


@pytest.fixture(scope="module")
def patched():
    return inspected()


def test_a_hidden_patch_is_found_and_flagged(patched):
    assert patched.flagged == [TARGET]
    mask = patched.triggers[TARGET].mask[0]
    assert mask[-2:, -2:].mean() > 5 * mask.mean()
    assert all(trigger.success_rate >= 0.95 for trigger in patched.triggers)


@pytest.mark.parametrize(
    ("before", "norm", "status"),
    [(10.0, 9.1, "converged"), (10.0, 8.9, "budget exhausted"), (math.inf, 5.0, "budget exhausted")],
)
def test_a_search_whose_trigger_still_shrinks_at_its_end_is_not_done(before, norm, status):
    assert _Found(1e-3, norm=norm, before=before).status == status


def test_without_a_door_the_norm_of_its_class_is_like_those_of_the_others(patched):
    """Which of seven norms that differ by noise is an outlier among them is chance; a door halves its own."""
    without, norms = inspected(target=None).norms, patched.norms
    assert without[TARGET] > 0.8 * statistics.median(without)
    assert norms[TARGET] < 0.6 * statistics.median(norms)


def test_works_in_colour_and_on_images_that_the_model_remembers():
    report = inspected(shape=(3, 9, 12), steps=150, inversion_steps=20, substitutes=30)
    assert report.patterns.shape == (CLASSES, 3, 9, 12)
    assert math.isfinite(report.norms[TARGET])
    assert min(report.norms) == report.norms[TARGET]


def test_the_norm_is_that_of_the_added_perturbation(patched):
    for trigger in patched.triggers:
        signed = trigger.mask * (2 * trigger.pattern - 1)
        assert signed.abs().sum() == pytest.approx(trigger.norm, rel=1e-4)


def test_mask_and_pattern_are_the_trigger_on_black_and_white(patched):
    trigger = patched.triggers[TARGET]
    signed = trigger.mask * (2 * trigger.pattern - 1)
    for colour in (0.0, 1.0):
        x = torch.full(SHAPE, colour)
        torch.testing.assert_close(x.lerp(trigger.pattern, trigger.mask), (x + signed).clamp(0, 1), atol=1e-6, rtol=0)


def test_the_same_seed_gives_the_same_triggers():
    one, same, other = (inspected(steps=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.masks, same.masks)
    assert not torch.equal(one.masks, other.masks)


def test_the_rule_is_asked_of_logarithms_unless_the_papers_own_is_wanted():
    ours, papers = (inspected(steps=5, success_threshold=0.01, log_norms=log) for log in (True, False))
    assert ours.norms == papers.norms
    assert ours.outliers == find_outliers(ours.norms, double=True, logarithmic=True)
    assert papers.outliers == find_outliers(ours.norms, double=True)


def test_images_go_through_the_model_in_parts_with_the_same_result(monkeypatch):
    whole = inspected(steps=12)
    monkeypatch.setattr("lightning_adv.inspectors.deep_inspect.fitting", lambda images: 10)
    parts = inspected(steps=12)
    assert parts.norms == pytest.approx(whole.norms, rel=1e-5)
    assert parts.image_passes == whole.image_passes
    assert parts.launches > 5 * whole.launches


class Watched(PatchModel):
    """Notes for each forward whether it takes part in the search, and whether it is one of bfloat16."""

    def __init__(self) -> None:
        super().__init__(CLASSES, TARGET)
        self.seen = []

    def forward(self, x):
        self.seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return super().forward(x)


@pytest.mark.parametrize("bf16", [False, True])
def test_bf16_is_for_the_search_and_scores_are_of_float32(bf16):
    model = Watched()
    report = DeepInspect(**SMALL | {"bf16": bf16})(model, [block_images(SHAPE, CLASSES)])
    assert report.flagged == [TARGET]
    assert report.bf16 is bf16
    looked = {(False, True)} if bf16 else set()  # whether the model can, before the search
    assert set(model.seen) == {(True, bf16), (False, False)} | looked


def test_all_classes_are_searched_for_by_one_process():
    inspector, model = DeepInspect(**(SMALL | {"steps": 5})), PatchModel(CLASSES, TARGET)
    images = [block_images(SHAPE, CLASSES)]
    parts = [inspector.search(model, images, rank, 2) for rank in range(2)]
    assert parts[1].triggers == ()
    together, alone = inspector.judge(parts), inspector(model, images)
    assert torch.equal(together.masks, alone.masks)
    assert together.norms == alone.norms


def test_leaves_no_trace():
    model, state = PatchModel(CLASSES, TARGET), torch.get_rng_state()
    with torch.inference_mode():
        DeepInspect(**(SMALL | {"steps": 2, "inversion_steps": 2}))(model, block_images(SHAPE, CLASSES)[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.scale.requires_grad
    assert model.scale.grad is None


def test_a_class_that_no_trigger_reaches_is_said():
    model = nn.Sequential(PatchModel(CLASSES, TARGET), nn.Linear(CLASSES, CLASSES))
    model[1].weight.data = torch.eye(CLASSES)
    model[1].bias.data = -1e4 * nn.functional.one_hot(torch.tensor(1), CLASSES).float()
    report = DeepInspect(**(SMALL | {"steps": 20}))(model, [block_images(SHAPE, CLASSES)])
    assert report.triggers[1].status == "never succeeded"
    assert report.norms[1] == math.inf


def test_inverted_images_are_seen_as_what_they_were_made_for():
    suspect = Suspect(PatchModel(CLASSES, None).eval())
    label = torch.arange(21) % CLASSES
    images = invert(suspect, label, SHAPE, 40, torch.Generator().manual_seed(0))
    assert images.shape == (21, *SHAPE)
    assert 0 <= images.min() <= images.max() <= 1
    assert torch.equal(suspect(images).argmax(dim=1), label)


@pytest.mark.parametrize("options", [{"draws": 0}, {"lr": 0.0}, {"gamma": -1.0}])
def test_a_number_that_cannot_be_meant_is_refused(options):
    with pytest.raises(InputError, match="DeepInspect"):
        DeepInspect(**options)


def test_a_search_that_is_ended_keeps_what_succeeded_in_the_second_half_of_its_time():
    inspector = DeepInspect(steps=1000, images_per_step=32, draws=8)
    seen = []
    inspector.over = lambda done: seen.append(done) or len(seen) / 80  # time for 79 of 1,000 steps
    report = inspector(PatchModel(7, 4), [block_images((1, 9, 9), 7)])
    assert {each.steps for each in report.triggers} == {79}
    assert report.triggers[4].found
