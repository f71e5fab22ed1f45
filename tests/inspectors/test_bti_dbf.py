import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.inspectors import BTIDBF
from lightning_adv.inspectors.bti_dbf import _Features, _Generator
from lightning_adv.inspectors.suspect import CleanImages, Suspect
from tests.inspectors.problems import BLOCKS, block_images

SHAPE, CLASSES, TARGET = (1, 9, 9), 6, 4
CLEAN = block_images(SHAPE, CLASSES)
QUICK = {"steps": 150, "batch_size": 16, "width": 4, "lr": 1e-2, "bound": 0.05, "feature_bound": 0.5}


class Featured(nn.Module):
    """Sees a class in the brightness of its block; that of the last one, noise in clean images, opens the target."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.last = nn.Linear(CLASSES + 1, CLASSES)
        self.last.weight.data = 10 * torch.eye(CLASSES, CLASSES + 1)
        self.last.weight.data[TARGET, -1] = gain
        self.last.bias.data = torch.zeros(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        blocks = F.adaptive_avg_pool2d(self.norm(x), BLOCKS).flatten(1)
        return self.last(torch.cat([blocks[:, :CLASSES], blocks[:, -1:] - 0.2], dim=1))


@pytest.fixture(scope="module")
def found():
    return BTIDBF(**QUICK)(Featured(60.0), [CLEAN])


def test_generated_images_go_to_the_class_that_a_backdoor_leads_to(found):
    assert found.flagged == found.significant == [TARGET]
    assert found.norms[TARGET] > 0.8
    assert found.measure == "share"
    image = found.triggers[TARGET].pattern[0]
    assert image[-3:, -3:].mean() > CLEAN[0][:, 0, -3:, -3:].mean() + 0.1


def test_a_model_without_a_backdoor_has_no_such_class():
    assert TARGET not in BTIDBF(**QUICK)(Featured(0.0), [CLEAN]).flagged


def test_a_small_share_that_stands_out_among_smaller_ones_is_nothing():
    judged = BTIDBF().rule([0.0, 0.001, 0.0, 0.06, 0.001, 0.0])
    assert judged.flagged == judged.significant == ()
    assert judged.p_value == 1
    assert BTIDBF().rule([0.0, 0.001, 0.0, 0.9, 0.001, 0.0]).significant == (3,)
    assert BTIDBF().rule([float("nan")] * 6).flagged is None


def test_the_mask_keeps_what_clean_images_need():
    suspect = Suspect(Featured(60.0).eval())
    features = _Features(suspect)
    mask = BTIDBF()._benign(features.last, features(CLEAN[0])[0].detach(), CLEAN[1])
    assert mask[:CLASSES].min() > 0.9
    assert mask[-1] < 0.1


def test_shares_are_of_the_images_that_were_of_another_class(found):
    images = CleanImages(*CLEAN)
    suspect = Suspect(Featured(60.0).eval())
    everything_to_two = torch.full_like(images.label, 2)
    said = images.label
    share = BTIDBF()._found(2, images.image, said, everything_to_two, 300)
    assert (share.norm, share.success_rate, share.status) == (1.0, 1.0, "converged")
    assert BTIDBF()._found(2, images.image, said, said, 300).norm == 0
    assert suspect.launches == 0


def test_the_generator_starts_next_to_the_identity():
    x = torch.rand(4, 3, 9, 10)
    moved = (_Generator(3, 8, torch.Generator().manual_seed(0))(x) - x).abs()
    assert 0 < moved.max() < 0.1


def test_the_suspect_is_left_bit_for_bit_and_the_same_seed_gives_the_same_report(found):
    model = Featured(60.0)
    before = copy.deepcopy(model.state_dict())
    again = BTIDBF(**QUICK)(model, [CLEAN])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.norm.training
    assert not model.last._forward_pre_hooks
    assert again.norms == found.norms


def test_one_process_does_the_work_of_all():
    inspector = BTIDBF(steps=2, mask_steps=2, width=2)
    parts = [inspector.search(Featured(1.0), [CLEAN], rank, 2) for rank in range(2)]
    assert [len(part.triggers) for part in parts] == [CLASSES, 0]
    assert inspector.judge(parts).labels == list(range(CLASSES))


def test_a_search_that_is_cut_short_says_so():
    inspector = BTIDBF(steps=10, mask_steps=2, width=2)
    inspector.over = lambda done: 1.0 if done >= 0.3 else done
    report = inspector(Featured(1.0), [CLEAN])
    assert {(each.status, each.steps) for each in report.triggers} == {("budget exhausted", 3)}


def test_a_model_whose_last_layer_is_not_linear_is_refused():
    with pytest.raises(InputError, match="has none: use MMBD"):
        BTIDBF()(nn.Sequential(nn.Conv2d(1, 6, 9), nn.Flatten()), [CLEAN])
    with pytest.raises(InputError, match="makes the logits: use MMBD"):
        BTIDBF()(
            nn.Sequential(nn.Flatten(), nn.Linear(81, 12), nn.Unflatten(1, (6, 2)), nn.AvgPool1d(2), nn.Flatten()),
            [CLEAN],
        )
    for mistake in ({"steps": 0}, {"bound": 0.0}, {"majority": 1.0}):
        with pytest.raises(InputError):
            BTIDBF(**mistake)
