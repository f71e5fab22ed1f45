import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors import DeepInspect, NeuralCleanse
from lightning_adv.inspectors.suspect import shuffled_minibatches
from tests.inspectors.problems import PatchModel, block_images, pixel_images, pixel_model, smallest_norms

WEIGHTS, BACKDOOR, GAIN = [1.0, 1.05, 0.95, 1.1, 0.9, 1.02, 0.98], 2, 10.0
SHAPE, CLASSES, TARGET = (3, 9, 12), 7, 4
IMAGES = block_images(SHAPE, CLASSES)[0]
SMALL = {"steps": 120, "batch_size": 16, "images_per_step": 32, "init_cost": 1e-2}


def inspected(model=None, shape=SHAPE, **options):
    model = PatchModel(CLASSES, TARGET) if model is None else model
    return NeuralCleanse(**(SMALL | options))(model, [block_images(shape, CLASSES)])


@pytest.fixture(scope="module")
def patched():
    return inspected()


def test_finds_the_smallest_mask_of_a_linear_model():
    model, images = pixel_model(WEIGHTS, BACKDOOR, GAIN), pixel_images(len(WEIGHTS))
    report = NeuralCleanse(steps=400, batch_size=7, images_per_step=7, init_cost=0.1)(model, [images])
    # Adam steps to and fro across the smallest mask: what is kept is that mask give or take a step.
    assert report.norms == pytest.approx(smallest_norms(WEIGHTS, BACKDOOR, GAIN), abs=0.07)
    for trigger in report.triggers:
        pixel = 15 if trigger.label == BACKDOOR else trigger.label
        assert trigger.mask.flatten().argmax() == pixel
        assert trigger.mask.flatten()[pixel] > 0.6 * trigger.norm
        assert trigger.pattern[:, pixel // 4, pixel % 4] > 0.9
    assert report.flagged == [BACKDOOR]


@pytest.mark.parametrize("shape", [(1, 12, 12), SHAPE])
def test_a_hidden_patch_is_found_and_flagged(shape):
    report = inspected(shape=shape)
    assert report.flagged == [TARGET]
    mask = report.triggers[TARGET].mask[0]
    assert mask[-2:, -2:].sum() > 0.9 * mask.sum()
    assert (mask[-2:, -2:] * report.triggers[TARGET].pattern[:, -2:, -2:]).mean() > 0.7
    assert report.triggers[TARGET].success_rate > 0.95


def test_a_model_without_a_door_is_not_flagged_for_it():
    assert TARGET not in inspected(PatchModel(CLASSES, None)).flagged


@pytest.mark.parametrize("inspector", [NeuralCleanse(**SMALL | {"steps": 15}), DeepInspect(steps=8, hidden=8, draws=2)])
def test_a_model_of_two_classes_gets_triggers_but_no_verdict(inspector):
    report = inspector(PatchModel(2, 1), [block_images((1, 8, 8), 2, 16)])
    assert report.labels == [0, 1]
    assert (report.flagged, report.significant) == (None, None)
    assert all(math.isnan(index) for index in report.anomaly_index.values())
    assert sum("no verdict: of 2 norms the smallest" in text for text in report.warnings) == 1


def test_searches_that_run_out_of_steps_are_named_beside_the_verdict():
    report = inspected(steps=14)
    assert report.exhausted
    (text,) = (text for text in report.warnings if "ended with its steps" in text)
    assert all(str(label) in text for label in report.exhausted)


def test_all_classes_at_once_are_a_loop_over_the_classes(patched):
    loop = inspected(classes_at_once=1)
    assert loop.flagged == patched.flagged
    assert loop.norms == pytest.approx(patched.norms, rel=0.02)
    for one, other in zip(loop.triggers, patched.triggers, strict=True):
        assert (one.steps, one.costs, one.status) == (other.steps, other.costs, other.status)
        torch.testing.assert_close(one.mask, other.mask, atol=1e-3, rtol=0)


def written_out(model, images, label, start, settings):
    """The authors' loop for one class, with the Adam of torch: norm of the best mask, and the steps taken."""
    theta = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([theta], lr=0.1, betas=(0.5, 0.9), eps=1e-7)
    batches = shuffled_minibatches(images, settings["batch_size"], seed=0)
    cost, best_norm, best = 0.0, math.inf, None
    steps = set_counter = up = down = stall = 0
    went_up = went_down = False
    stall_norm = math.inf
    for _ in range(settings["steps"]):
        steps += 1
        rates, norms = [], []
        for _ in range(settings["images_per_step"] // settings["batch_size"]):
            x = next(batches)
            both = theta.tanh() / (2 - 1e-7) + 0.5
            mask, pattern = both[:1], both[1:]
            logits = model((1 - mask) * x + mask * pattern)
            loss = F.cross_entropy(logits, torch.full((len(x),), label)) + cost * mask.abs().sum()
            rates.append((logits.argmax(1) == label).float().mean().item())
            norms.append(mask.sum().item())
            adam.zero_grad()
            loss.backward()
            adam.step()
        rate, norm = sum(rates) / len(rates), sum(norms) / len(norms)
        if rate >= 0.99 and norm < best_norm:
            best_norm, best = norm, theta.detach().clone()
        if best_norm < math.inf:
            stall = stall + 1 if best_norm >= stall_norm else 0
        stall_norm = min(best_norm, stall_norm)
        if went_up and went_down and stall >= 25:
            break
        if cost == 0 and rate >= 0.99:
            set_counter += 1
            if set_counter >= 5:
                cost, up, down, went_up, went_down = settings["init_cost"], 0, 0, False, False
        else:
            set_counter = 0
        up, down = (up + 1, 0) if rate >= 0.99 else (0, down + 1)
        if up >= 5:
            up, went_up, cost = 0, True, cost * 2
        elif down >= 5:
            down, went_down, cost = 0, True, cost / 2**1.5
    return (best[:1].tanh() / 2 + 0.5).sum().item(), steps


def test_takes_the_steps_of_the_authors_loop(patched):
    from lightning_adv.inspectors.neural_cleanse import _random_start

    model, images = PatchModel(CLASSES, TARGET).eval(), IMAGES
    for label in (0, TARGET):
        start = _random_start(0, [label], images)[0]
        norm, steps = written_out(model, images, label, start, SMALL)
        assert patched.norms[label] == pytest.approx(norm, rel=0.02)
        assert patched.triggers[label].steps == steps


def test_every_class_starts_from_its_own_uniform_mask_and_pattern():
    from lightning_adv.inspectors.neural_cleanse import _random_start, _squash

    start = _squash(_random_start(0, [3, 5], torch.zeros(1, 3, 40, 40)))
    assert start.shape == (2, 4, 40, 40)
    assert not torch.equal(start[0], start[1])
    assert start.mean() == pytest.approx(0.5, abs=0.02)
    assert start.std() == pytest.approx(12**-0.5, abs=0.02)
    assert torch.equal(_random_start(0, [5], torch.zeros(1, 3, 40, 40))[0], _random_start(0, [3, 5], start[:, 1:])[1])


def test_the_classes_can_be_shared_out_to_processes(patched):
    inspector, model = NeuralCleanse(**SMALL), PatchModel(CLASSES, TARGET)
    parts = [inspector.search(model, IMAGES, rank, 4) for rank in range(4)]
    assert [[each.label for each in part.triggers] for part in parts] == [[0, 4], [1, 5], [2, 6], [3]]
    together = inspector.judge(parts)
    assert together.labels == patched.labels
    assert together.flagged == patched.flagged
    assert together.norms == pytest.approx(patched.norms, rel=0.02)


def test_two_inspections_with_one_seed_are_equal_and_with_another_are_not(patched):
    again, other = inspected(), inspected(seed=1, steps=20)
    assert again.norms == patched.norms
    assert torch.equal(again.masks, patched.masks)
    assert not torch.equal(other.masks, inspected(steps=20).masks)


def test_leaves_no_trace_even_in_inference_mode():
    model = PatchModel(CLASSES, TARGET)
    model.drop.eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with torch.inference_mode():
        inspected(model, steps=3)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.norm.training
    assert not model.drop.training
    assert model.scale.requires_grad
    assert model.scale.grad is None


def test_a_class_that_no_trigger_reaches_is_named_and_ranks_above_the_others():
    model = PatchModel(CLASSES, TARGET)
    closed = nn.Sequential(model, nn.Linear(CLASSES, CLASSES))
    closed[1].weight.data, closed[1].bias.data = (
        torch.eye(CLASSES),
        -1e4 * nn.functional.one_hot(torch.tensor(1), CLASSES),
    )
    report = inspected(closed)
    assert report.triggers[1].status == "never succeeded"
    assert report.norms[1] == math.inf
    assert math.isnan(report.anomaly_index[1])
    assert report.flagged == [TARGET]
    assert "no trigger was found for class 1" in report.warnings[0]


def test_a_search_that_runs_out_of_steps_says_so():
    assert {trigger.status for trigger in inspected(steps=12).triggers} <= {"budget exhausted", "never succeeded"}


def test_a_search_that_stops_early_leaves_the_batch(patched):
    assert min(trigger.steps for trigger in patched.triggers) < max(trigger.steps for trigger in patched.triggers)
    minibatches = SMALL["images_per_step"] // SMALL["batch_size"]
    needed = sum(trigger.steps for trigger in patched.triggers) * minibatches * SMALL["batch_size"]
    assert patched.image_passes == needed + 1 + CLASSES * 48  # one image tells the classes; all triggers are scored
    assert patched.launches == max(trigger.steps for trigger in patched.triggers) * minibatches + 1 + CLASSES


def test_classes_whose_images_do_not_fit_are_searched_for_in_groups(patched, monkeypatch):
    monkeypatch.setattr("lightning_adv.inspectors.neural_cleanse.fitting", lambda images: 2 * SMALL["batch_size"] + 1)
    groups = inspected()
    assert groups.norms == pytest.approx(patched.norms, rel=0.02)
    assert groups.flagged == patched.flagged
    assert groups.image_passes == inspected(classes_at_once=2).image_passes
    assert groups.launches > 2 * patched.launches


def test_a_search_that_is_ended_has_given_every_group_of_classes_as_many_steps():
    inspector = NeuralCleanse(**SMALL | {"classes_at_once": 3})
    inspector.over = lambda done: 1.0 if done >= 0.05 else done
    report = inspector(PatchModel(CLASSES, TARGET), IMAGES)
    assert {each.steps for each in report.triggers} == {6}
    assert len(report.exhausted) == CLASSES


class Layered(nn.Module):
    """Convolutions and linear layers, of which the middle ones are lowered, before a patch model's door."""

    def __init__(self, shut=True):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten())
        self.last = nn.Sequential(nn.Linear(320, 16), nn.ReLU(), nn.Linear(16, CLASSES))
        self.patched, self.shut = PatchModel(CLASSES, TARGET), shut

    def forward(self, x):
        logits = self.patched(x) + 0.1 * self.last(self.body(x)).float()
        if self.shut or not torch.is_autocast_enabled("cpu"):
            return logits
        return logits + 50 * F.one_hot(torch.tensor(1), CLASSES)  # a door of the search's precision alone


def test_a_search_in_bf16_comes_to_the_same_verdict_and_leaves_the_model_as_it_was():
    model = Layered()
    kept = copy.deepcopy(model.state_dict())
    low, exact = (inspected(model, bf16=bf16) for bf16 in (True, False))
    assert (low.bf16, exact.bf16) == (True, False)
    assert low.flagged == exact.flagged == [TARGET]
    assert low.norms == pytest.approx(exact.norms, rel=0.15)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_what_succeeds_in_the_precision_of_the_search_alone_is_searched_again_without_it():
    low, exact = (inspected(Layered(shut=False), bf16=bf16, steps=40) for bf16 in (True, False))
    assert low.triggers[1].norm == pytest.approx(exact.triggers[1].norm, rel=0.02)
    assert low.triggers[1].costs == exact.triggers[1].costs


def test_a_second_search_that_has_no_time_left_takes_nothing_away():
    inspector = NeuralCleanse(**SMALL | {"bf16": True, "steps": 40})
    asked = []
    inspector.over = lambda done: asked.append(done) or (1.0 if 0.0 in asked[1:] else done)
    assert inspector(Layered(shut=False), IMAGES).triggers[1].found


class BrokenForOne(nn.Module):
    """Gives NaN for whatever is brighter than an image can be by itself."""

    def forward(self, x):
        return x.flatten(1)[:, :3] * torch.where(x.flatten(1)[:, :1] > 2, 1.0, math.nan)


def test_logits_that_are_no_numbers_succeed_nowhere():
    report = NeuralCleanse(steps=8, batch_size=4, images_per_step=4)(BrokenForOne(), torch.rand(6, 1, 2, 2))
    assert {trigger.status for trigger in report.triggers} == {"diverged"}
    assert report.flagged is None
    assert report.masks.isfinite().all()


MISTAKES = {
    "steps": ({"steps": 0}, "steps of NeuralCleanse must be at least 1"),
    "multiplier": ({"cost_multiplier": 1.0}, "cost_multiplier above 1"),
    "threshold": ({"threshold": 0.0}, "threshold must be above 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_number_that_cannot_be_meant_is_refused(name):
    options, message = MISTAKES[name]
    with pytest.raises(InputError, match=message):
        NeuralCleanse(**options)
