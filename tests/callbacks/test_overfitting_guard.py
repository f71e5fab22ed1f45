"""Catastrophic overfitting ends the training, with the weights of the last good epoch."""

import copy
import json
from functools import partial

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.attacks import FGSM, PGD, Attack, DeepFool
from lightning_adv.callbacks import CatastrophicOverfittingGuard
from lightning_adv.errors import InputError
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import AWP, CrossEntropy, Objective
from lightning_adv.objectives.attacked import AttackedObjective
from tests.processes import torchrun

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*smaller than the logging interval.*",
    "ignore:.*have no `val_dataloader`",
)


class Collapsing(LightningModule):
    """Right about everything until the epoch in which its answer is turned round."""

    def __init__(self, collapses_in: int) -> None:
        super().__init__()
        self.collapses_in = collapses_in
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        with torch.no_grad():
            self.head[1].weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        self.bias = nn.Parameter(torch.tensor([2.0, -2.0]))

    def forward(self, x):
        return self.head(x) + self.bias

    def training_step(self, batch, batch_idx):
        return 0.0 * self(batch[0]).sum()

    def on_train_epoch_start(self):
        if self.current_epoch == self.collapses_in:
            with torch.no_grad():
                self.head[1].weight.neg_()
                self.bias.neg_()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(guard: CatastrophicOverfittingGuard, collapses_in: int, folder) -> tuple[Trainer, Collapsing]:
    x = torch.cat([torch.zeros(8, 1, 2, 2), torch.ones(8, 1, 2, 2)])
    data = DataLoader(TensorDataset(x, torch.arange(16) // 8), batch_size=16)
    model = Collapsing(collapses_in)
    trainer = quiet(guard, folder, max_epochs=5)
    trainer.fit(model, data)
    return trainer, model


def quiet(guard: CatastrophicOverfittingGuard, folder, **options: int) -> Trainer:
    return Trainer(
        callbacks=[guard], accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, default_root_dir=folder, **options,
    )  # fmt: skip


@pytest.mark.parametrize(("action", "sign"), [("restore", 1.0), ("stop", -1.0)])
def test_a_collapse_stops_the_training_and_says_so(action, sign, tmp_path):
    guard = CatastrophicOverfittingGuard(FGSM(eps=0.1), action=action)
    with pytest.warns(UserWarning, match=r"catastrophic overfitting in epoch 3.*from 100.0% to 0.0%"):
        trainer, model = fitted(guard, collapses_in=2, folder=tmp_path)
    assert trainer.current_epoch == 3
    assert guard.collapsed
    assert model.head[1].weight[1, 0] == sign


def test_a_steady_training_goes_on_to_its_end(tmp_path):
    guard = CatastrophicOverfittingGuard(FGSM(eps=0.1))
    trainer, _ = fitted(guard, collapses_in=99, folder=tmp_path)
    assert trainer.current_epoch == 5
    assert not guard.collapsed
    assert trainer.callback_metrics["train/guard/robust_accuracy"] == 1


def test_joined_images_count_as_their_likeliest_class(tmp_path):
    guard, model = CatastrophicOverfittingGuard(FGSM(eps=0.1)), Collapsing(99)
    x, soft = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2), torch.tensor([[0.6, 0.4], [0.3, 0.7]])
    quiet(guard, tmp_path, max_epochs=1).fit(model, DataLoader(TensorDataset(x, soft), batch_size=2))
    assert guard.best == 1


class BelievesItself(AttackedObjective):
    """Reports what it calls robust accuracy of plain images."""

    judges = "robust"

    def craft(self, model, x, y):
        return x

    def loss(self, model, x, x_adv, y):
        logits = model(x_adv)
        return self.cross_entropy(logits, y), logits.detach()


class BelievesItselfOnce(BelievesItself):
    """After its first epoch it knows better."""

    def at_epoch(self, epoch):
        super().at_epoch(epoch)
        self.epoch = epoch

    def craft(self, model, x, y):
        return super().craft(model, x, y) if self.epoch < 1 else self.attack(model, x, y)


def trained_blindly(
    objective: Objective, attack: Attack, folder, **options: object
) -> tuple[Trainer, CatastrophicOverfittingGuard]:
    """On images that are told apart by a shade, none of which withstands the attack."""
    guard = CatastrophicOverfittingGuard(attack, action="stop")
    x = torch.tensor([0.4, 0.6]).repeat(8).view(16, 1, 1, 1).expand(16, 1, 2, 2).contiguous()
    data = DataLoader(TensorDataset(x, torch.arange(16) % 2), batch_size=16)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[-10.0] * 4, [10.0] * 4]))
        net[1].bias.copy_(torch.tensor([20.0, -20.0]))
    model = ClassifierModule(net, objective, partial(torch.optim.SGD, lr=1e-6), num_classes=2)
    trainer = quiet(guard, folder, max_epochs=3, limit_val_batches=0, **options)
    trainer.fit(model, data)
    return trainer, guard


@pytest.mark.parametrize("wrapped", [BelievesItself, lambda *args: AWP(BelievesItself(*args))])
def test_a_training_that_was_never_robust_has_collapsed_as_well(wrapped, tmp_path):
    with pytest.warns(UserWarning, match=r"in epoch 2: 100.0% of images .* attack, 0.0% of a batch the guard's"):
        trainer, guard = trained_blindly(wrapped(FGSM(eps=0.3)), PGD(eps=0.3, steps=2), tmp_path)
    assert trainer.current_epoch == 2
    assert guard.collapsed


@pytest.mark.parametrize(
    ("objective", "attack"),
    [
        (BelievesItselfOnce(FGSM(eps=0.3)), PGD(eps=0.3)),
        (BelievesItself(FGSM(eps=0.1)), PGD(eps=0.3)),
        (BelievesItself(FGSM(eps=0.3, norm="L2")), PGD(eps=0.3)),
        (BelievesItself(FGSM(eps=0.3), warmup_epochs=3), PGD(eps=0.3)),
        (BelievesItself(FGSM(eps=0.3), random_eps=True), PGD(eps=0.3)),
        (BelievesItself(DeepFool()), PGD(eps=0.3)),
        (CrossEntropy(), PGD(eps=0.3)),
    ],
)
def test_one_epoch_alone_is_no_collapse_nor_is_what_a_training_reports_under_another_budget(
    objective, attack, tmp_path
):
    trainer, guard = trained_blindly(objective, attack, tmp_path)
    assert trainer.current_epoch == 3
    assert not guard.collapsed


@pytest.mark.parametrize(
    ("own", "accuracy", "is_far"),
    [
        (0.364, 0, True),
        (0.39, 0.05, True),
        (0.326, 0.125, False),
        (0.269, 0.09, False),
        (0.9, 0.6, False),
        (0.19, 0, False),
    ],
)
def test_what_recovered_on_record_is_not_far_below_and_what_did_not_is(own, accuracy, is_far):
    assert CatastrophicOverfittingGuard()._is_far_below(own, accuracy) == is_far


def test_its_state_survives_a_checkpoint_that_is_loaded_without_unpickling(tmp_path):
    guard = CatastrophicOverfittingGuard(FGSM(eps=0.1))
    guard.best, guard.doubted, guard._good = 0.7, True, {"state_dict": {"weight": torch.ones(2)}}
    torch.save(guard.state_dict(), tmp_path / "state.pt")
    other = CatastrophicOverfittingGuard(FGSM(eps=0.1))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (other.best, other.doubted) == (0.7, True)
    assert other._good["state_dict"]["weight"].equal(torch.ones(2))
    with pytest.raises(InputError, match="the last good epoch holds NaN or infinite values in weight"):
        other.load_state_dict(guard.state_dict() | {"good": {"state_dict": {"weight": torch.tensor([1.0, torch.nan])}}})


def test_a_checkpoint_that_keeps_the_good_weights_alone_is_resumed_and_gone_back_to(tmp_path):
    """As versions before the averages of weights wrote it: {"good": {name: weight}}."""
    guard, model, x = CatastrophicOverfittingGuard(FGSM(eps=0.1)), Collapsing(99), torch.zeros(2, 1, 2, 2)
    data = DataLoader(TensorDataset(x + torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.arange(2)), batch_size=2)
    first = quiet(guard, tmp_path, max_epochs=2)
    first.fit(model, data)
    first.save_checkpoint(path := tmp_path / "old.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    state = checkpoint["callbacks"]["CatastrophicOverfittingGuard"]
    state["good"] = state["good"]["state_dict"]
    del state["doubted"]
    torch.save(checkpoint, path)
    resumed = CatastrophicOverfittingGuard(FGSM(eps=0.1))
    with pytest.warns(UserWarning, match=r"epoch 3.*from 100.0% to 0.0%.*with the weights of the last good epoch"):
        quiet(resumed, tmp_path, max_epochs=5).fit(model := Collapsing(2), data, ckpt_path=path)
    assert model.head[1].weight[1, 0] == 1


class Interruption(Callback):
    """Saves the run in the validation behind an epoch's last batch, and ends it there."""

    def on_validation_start(self, trainer, pl_module):
        trainer.save_checkpoint(f"{trainer.default_root_dir}/interrupted.ckpt")
        raise EOFError


def test_an_epoch_that_was_interrupted_behind_its_last_batch_is_not_judged(tmp_path):
    x = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    data = DataLoader(TensorDataset(x, torch.arange(2)), batch_size=2)
    model = ClassifierModule(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), num_classes=2)
    untouched = copy.deepcopy(model)
    first = quiet(CatastrophicOverfittingGuard(FGSM(eps=0.1)), tmp_path, max_epochs=2, num_sanity_val_steps=0)
    first.callbacks.append(Interruption())
    with pytest.raises(EOFError):
        first.fit(model, data, data)
    resumed = quiet(CatastrophicOverfittingGuard(FGSM(eps=0.1)), tmp_path, max_epochs=2, num_sanity_val_steps=0)
    resumed.fit(untouched, data, data, ckpt_path=tmp_path / "interrupted.ckpt")
    assert resumed.current_epoch == 2
    assert "train/guard/robust_accuracy" in resumed.callback_metrics, "the second epoch is judged"


@pytest.mark.parametrize(("arguments", "complaint"), [({"drop": 0.0}, "drop must lie"), ({"action": "go"}, "action")])
def test_refuses_what_cannot_be_meant(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        CatastrophicOverfittingGuard(**arguments)


SCRIPT = """
import json, warnings
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader, TensorDataset
from lightning_adv.attacks import FGSM, PGD
from lightning_adv.callbacks import CatastrophicOverfittingGuard
from tests.callbacks.test_overfitting_guard import BelievesItself, Collapsing, trained_blindly

class OnOneRank(Collapsing):  # the bias is turned round on rank 1 alone
    def on_train_epoch_start(self):
        if self.global_rank == 1:
            super().on_train_epoch_start()

warnings.simplefilter("ignore")
guard = CatastrophicOverfittingGuard(FGSM(eps=0.1), drop=0.3)
x = torch.cat([torch.zeros(8, 1, 2, 2), torch.ones(8, 1, 2, 2)])
run = pl.Trainer(max_epochs=5, callbacks=guard, accelerator="cpu", devices=2, logger=False, enable_checkpointing=False,
                 strategy=DDPStrategy(process_group_backend="gloo"), enable_progress_bar=False,
                 enable_model_summary=False)
model = OnOneRank(collapses_in=2)
run.fit(model, DataLoader(TensorDataset(x, torch.arange(16) // 8), batch_size=8))
told = [guard.collapsed, run.current_epoch, float(run.callback_metrics["train/guard/robust_accuracy"])]
told += [model.head[1].weight[1].tolist()]

trainer, guard = trained_blindly(BelievesItself(FGSM(eps=0.3)), PGD(eps=0.3, steps=2), ".", devices=2,
                                 strategy=DDPStrategy(process_group_backend="gloo"))
told += [guard.collapsed, trainer.current_epoch]
with open(f"{run.global_rank}.json", "w") as file:
    json.dump(told, file)
"""


@pytest.mark.slow
def test_two_ranks_decide_alike_on_the_images_of_both(tmp_path):
    torchrun(SCRIPT, tmp_path, 2)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    fallen, blind = [True, 3, 0.5, [1.0] * 4], [True, 2]
    assert ranks[0] == ranks[1] == fallen + blind, "the collapse of one is half of the images, and both go back"
