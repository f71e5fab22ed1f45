"""Images of frozen sources meet any model, rank by rank the same, and unmask gradients that are masked."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM, PGD
from lightning_adv.callbacks import AttackEvaluation, TransferEvaluation
from lightning_adv.errors import InputError
from lightning_adv.results.result import joint_warnings
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, PlainModule, images, trained, trainer

ATTACKS = {"fgsm": FGSM(eps=0.12), "pgd": PGD(eps=0.12, steps=5)}


def source(seed: int = 5) -> nn.Module:
    """Another model of the strangers' images: linear."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, CLASSES))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(60):
            x, y = images(128, seed=9).tensors
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def evaluated(*callbacks: object, model: nn.Module | None = None, batch_size: int = 32):
    run = trainer(*callbacks)
    run.validate(model or trained(), DataLoader(images(96, seed=3), batch_size=batch_size), verbose=False)
    return run


def test_the_counts_are_those_of_the_images_crafted_on_the_source():
    model, other = trained().eval(), source()
    callback = TransferEvaluation({"linear": other}, ATTACKS)
    run = evaluated(callback, model=model)
    x, y = images(96, seed=3).tensors
    crafted = ATTACKS["fgsm"].run(other, x, y)
    with torch.no_grad():
        clean, attacked = (model(each).argmax(dim=1) == y for each in (x, crafted.images))
    row = callback.result.rows[0]
    assert (row.source, row.attack, row.samples) == ("linear", "fgsm", 96)
    assert row.clean_correct == int(clean.sum())
    assert row.robust_correct == int((clean & attacked).sum())
    assert row.deceived == int((clean & crafted.success).sum()) > 10
    assert row.transferred == int((clean & crafted.success & ~attacked).sum())
    key = "val/transfer/linear/fgsm/robust_accuracy"
    assert run.callback_metrics[key].item() == pytest.approx(row.robust_accuracy)


def test_a_model_is_its_own_source_with_a_transfer_rate_of_one():
    model = trained()
    other = PlainModule()
    other.load_state_dict(model.state_dict())
    callback = TransferEvaluation({"itself": other}, {"pgd": ATTACKS["pgd"]})
    evaluated(callback, model=model)
    (row,) = callback.result.rows
    assert row.transfer_rate == 1
    assert row.robust_correct == row.clean_correct - row.deceived


class Masked(PlainModule):
    """Logits in steps: right as often as before, and without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.net(x) * 100).round() / 100


@pytest.mark.parametrize("transfer_first", [True, False])
def test_masked_gradients_are_told_in_both_sections_whatever_the_order(transfer_first):
    model = Masked()
    model.load_state_dict(trained().state_dict())
    own = AttackEvaluation({"own": PGD(eps=0.12, steps=5)})
    callback = TransferEvaluation({"unmasked": trained()}, ATTACKS)
    run = evaluated(*((callback, own) if transfer_first else (own, callback)), model=model)
    for warnings in joint_warnings([own.result, callback.result]):
        assert any("crafted on unmasked" in text and "gradients are masked" in text for text in warnings)
    assert run.callback_metrics["val/transfer/robust_accuracy"] < run.callback_metrics["val/own/robust_accuracy"]


def test_one_step_on_the_model_itself_is_no_yardstick_for_many_on_a_source_like_it():
    own = AttackEvaluation({"own": FGSM(eps=0.12)})
    callback = TransferEvaluation({"twin": trained()}, {"pgd": PGD(eps=0.12, steps=20)})
    run = evaluated(own, callback)
    assert joint_warnings([own.result, callback.result]) == [[], []]
    assert run.callback_metrics["val/transfer/robust_accuracy"] < run.callback_metrics["val/own/robust_accuracy"] - 0.02


def test_honest_gradients_raise_no_warning():
    own = AttackEvaluation({"own": PGD(eps=0.12, steps=5)})
    callback = TransferEvaluation({"linear": source()}, ATTACKS)
    evaluated(own, callback)
    assert joint_warnings([own.result, callback.result]) == [[], []]


def test_a_source_is_loaded_from_the_checkpoint_of_a_run(tmp_path):
    training = trainer(max_epochs=1)
    training.fit(classifier(), datamodule=SmallData())
    training.save_checkpoint(tmp_path / "last.ckpt")
    callback = TransferEvaluation({"saved": str(tmp_path / "last.ckpt")}, {"fgsm": FGSM(eps=0.1)})
    run = trainer(callback)
    run.validate(classifier(), datamodule=SmallData(), verbose=False)
    assert callback.result.rows[0].samples == 12


@pytest.mark.parametrize("kind", ["missing", "text"])
def test_a_checkpoint_that_is_none_is_named(kind, tmp_path):
    path = tmp_path / "source.ckpt"
    if kind == "text":
        path.write_text("no checkpoint")
    callback = TransferEvaluation({"saved": str(path)}, ATTACKS)
    with pytest.raises(InputError, match=r"source 'saved': .*source\.ckpt"):
        evaluated(callback)


def test_a_source_of_other_classes_is_refused_before_training():
    callback = TransferEvaluation({"odd": nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, 7))}, ATTACKS)
    run = trainer(callback, max_epochs=1, num_sanity_val_steps=0)
    loader = DataLoader(images(32, seed=1), batch_size=16)
    with pytest.raises(InputError, match="source 'odd' gives"):
        run.fit(trained(), loader, loader)


def test_nothing_to_transfer_is_refused():
    with pytest.raises(InputError, match="needs a source and an attack"):
        TransferEvaluation({}, ATTACKS)
