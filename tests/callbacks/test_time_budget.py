import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.callbacks import AttackEvaluation, BackdoorInspection, TimeBudget
from lightning_adv.data import ImageDataModule, InMemoryImages, Sources
from lightning_adv.errors import InputError
from lightning_adv.inspectors import DeepInspect, NeuralCleanse
from tests.callbacks.strangers import PlainModule, trainer
from tests.inspectors.problems import PatchModel, block_images
from tests.processes import in_ranks

pytestmark = pytest.mark.filterwarnings("ignore:.*is not written")

CLASSES, TARGET, COUNT = 7, 4, 140


class Blocks(ImageDataModule):
    """Images that the model below gets right."""

    num_classes, in_channels, image_size = CLASSES, 1, (12, 12)
    mean, std = (0.0,), (1.0,)

    def load(self) -> Sources:
        images = InMemoryImages(*block_images((1, 12, 12), CLASSES, COUNT))
        return Sources(train=images, test=images)


class Ticking(PlainModule):
    """A backdoored model by which the clock goes: ``cost`` seconds for each image of a forward."""

    def __init__(self, cost: Callable[["Ticking"], float]) -> None:
        super().__init__()
        self.net, self.cost, self.now = PatchModel(CLASSES, TARGET), cost, 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.now += self.cost(self) * len(x)
        return self.net(x)


def searches() -> dict:
    shared = {"steps": 40, "images_per_step": 32, "batch_size": 16}
    return {"nc": NeuralCleanse(**shared, init_cost=1e-2), "di": DeepInspect(**shared, draws=8, hidden=16)}


def attacks() -> dict:
    return {"pgd": PGD(0.1, steps=5), "many": PGD(0.1, steps=50)}


@pytest.fixture
def audited(monkeypatch, tmp_path):
    """Tests a model within minutes of its clock: the seconds that it took, the budget, and both evaluations."""

    def run(minutes, cost, kinds=(BackdoorInspection, AttackEvaluation)):
        model = Ticking(cost)
        monkeypatch.setattr(TimeBudget, "clock", lambda self: model.now)
        monkeypatch.setattr("lightning_adv.evaluation.pace.perf_counter", lambda: model.now)
        made = {BackdoorInspection: searches, AttackEvaluation: attacks}
        budget, evaluations = TimeBudget(minutes), [kind(made[kind]()) for kind in kinds]
        trainer(budget, *evaluations, folder=tmp_path).test(model, Blocks(batch_size=64, val_size=12), verbose=False)
        return model.now, budget, *evaluations

    return run


@pytest.mark.parametrize(
    "cost",
    [
        lambda model: 3e-3,
        lambda model: 6e-3,
        lambda model: 3e-3 if model.now < 10 else 6e-3,  # a machine that becomes busy
        lambda model: 6e-3 if model.now < 10 else 3e-3,  # and one that was
    ],
    ids=["quick", "slow", "busy later", "busy before"],
)
def test_the_time_is_kept_whatever_the_pace_becomes(audited, cost):
    seconds, budget, inspection, evaluation = audited(1, cost)
    assert 20 < seconds < 66
    assert budget.cuts
    assert inspection.result.reports["nc"].triggers[0].steps >= 10
    assert sum(evaluation.result.per_class_samples) >= 8


def test_a_machine_that_is_fast_enough_changes_nothing(audited):
    _, budget, *evaluations = audited(60, lambda model: 1e-6)
    _, _, *whole = audited(None, lambda model: 1e-6)
    assert budget.cuts == []
    for name in ("nc", "di"):
        norms = [each.result.reports[name].norms for each in (evaluations[0], whole[0])]
        assert norms[0] == norms[1]
    rows = [each.result.attacks for each in (evaluations[1], whole[1])]
    assert [row.robust_correct for row in rows[0]] == [row.robust_correct for row in rows[1]]
    assert evaluations[1].result.samples == COUNT


def test_a_model_too_slow_for_any_search_is_attacked_only_and_that_is_said(audited):
    seconds, budget, inspection, evaluation = audited(1, lambda model: 0.05)
    assert inspection.result is None
    assert "nc is left out" in " ".join(budget.cuts)
    assert evaluation.result.samples >= 8
    assert [row.name for row in evaluation.result.attacks] == ["pgd"]
    assert seconds < 1.5 * 60


def test_the_dearest_attack_is_left_out_before_the_images_are_too_few_to_count(audited):
    _, budget, evaluation = audited(0.5, lambda model: 5e-3, [AttackEvaluation])
    assert [row.name for row in evaluation.result.attacks] == ["pgd"]
    assert evaluation.result.samples >= 100
    assert "many is left out" in " ".join(budget.cuts)


def test_no_time_is_refused():
    with pytest.raises(InputError, match="above 0"):
        TimeBudget(0)


def test_a_trainer_without_a_datamodule_is_refused():
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*block_images((1, 12, 12), CLASSES)))
    with pytest.raises(InputError, match="a datamodule"):
        trainer(TimeBudget(1), AttackEvaluation({"fgsm": FGSM(0.1)})).test(Ticking(lambda model: 0), data)


SCRIPT = """
import json, os
import pytorch_lightning as pl
from datetime import timedelta
from pytorch_lightning.strategies import DDPStrategy
from lightning_adv.callbacks import AttackEvaluation, BackdoorInspection, TimeBudget
from tests.callbacks.test_time_budget import Blocks, Ticking, attacks, searches

model, haste = Ticking(lambda model: 3e-3), (1, 20)[int(os.environ["RANK"])]
TimeBudget.clock = lambda self: model.now * haste
evaluations = BackdoorInspection(searches()), AttackEvaluation(attacks())
strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60))
pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, callbacks=[TimeBudget(0.4), *evaluations], logger=False,
           enable_progress_bar=False, enable_model_summary=False).test(model, Blocks(batch_size=64, val_size=12))
print(json.dumps([sorted(evaluations[0].inspectors), sorted(evaluations[1].attacks), evaluations[1].result.samples]))
"""


@pytest.mark.slow
def test_ranks_whose_clocks_differ_cut_alike(tmp_path):
    one, two = (json.loads(each.stdout.splitlines()[-1]) for each in in_ranks(SCRIPT, tmp_path, 2))
    assert one == two
    assert one[0]
    assert one[1]
