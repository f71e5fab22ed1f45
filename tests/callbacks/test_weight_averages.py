"""What averages of weights are made of, where they are used, and what a checkpoint holds of them."""

import pytest
import torch
from pytorch_lightning import Callback

from lightning_adv.attacks import FGSM
from lightning_adv.callbacks import EMA, SWA, AttackEvaluation, CatastrophicOverfittingGuard
from lightning_adv.data import float_images
from lightning_adv.errors import InputError
from lightning_adv.models import read_state_dict
from lightning_adv.objectives import CrossEntropy
from tests.callbacks.recipes import EveryCheckpoint, SmallData, classifier
from tests.callbacks.strangers import trainer

OPTIONS = {"backbone": "preact_resnet18", "backbone_options": {"width": 4}}  # with BatchNorm


class Noting(Callback):
    """Keeps the weights after every step, and those that validation sees."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, runner, module, outputs, batch, batch_idx):
        self.steps.append(copied(module))

    def on_validation_batch_start(self, runner, module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0 and not runner.sanity_checking:
            self.validated.append(copied(module))


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items() if "backbone" in name}


def fitted(*callbacks, epochs=2, **options):
    noting, model = Noting(), classifier(CrossEntropy(), **OPTIONS)
    trainer(noting, *callbacks, max_epochs=epochs, num_sanity_val_steps=0, **options).fit(model, datamodule=SmallData())
    return noting, model


def test_the_exponential_average_is_the_papers_and_is_validated_and_kept():
    decay, start = 0.3, 0.4  # of 10 steps
    noting, model = fitted(EMA(decay=decay, start=start))
    weights = [name for name, _ in model.named_parameters()]
    average = dict(noting.steps[0])
    for step, live in enumerate(noting.steps[1:], start=1):
        n = step - 4
        d = 0.0 if n < 0 else min(decay, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * live[name] for name in weights}
        if step in (4, 9):  # the last of an epoch
            shown = noting.validated[step // 5]
            torch.testing.assert_close({name: shown[name] for name in weights}, average)
            buffers = [name for name in live if "running" in name]
            assert buffers
            assert all(torch.equal(shown[name], live[name]) for name in buffers)
    torch.testing.assert_close({name: copied(model)[name] for name in weights}, average)


def test_the_equal_average_counts_epochs_from_one_on_and_measures_its_statistics():
    noting, model = fitted(SWA(start_epoch=1), epochs=3)
    ends, weights = noting.steps[4::5], [name for name, _ in model.named_parameters()]
    for epoch, shown in enumerate(noting.validated):
        counted = ends[1 : epoch + 1] or ends[:1]
        mean = {name: torch.stack([each[name] for each in counted]).mean(dim=0) for name in weights}
        torch.testing.assert_close({name: shown[name] for name in weights}, mean)
    assert all(torch.equal(noting.validated[1][name], ends[1][name]) for name in ends[1])
    data = SmallData()
    data.setup()
    module, inputs, images = first_norm(model.backbone), [], data.images("train")
    handle = module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    for batch in float_images(images[torch.arange(len(images))].image).split(data.batch_size):
        model.eval()(batch)
    handle.remove()
    torch.testing.assert_close(module.running_mean, torch.stack([each.mean(dim=(0, 2, 3)) for each in inputs]).mean(0))
    torch.testing.assert_close(module.running_var, torch.stack([variance(each) for each in inputs]).mean(dim=0))


def first_norm(network):
    return next(each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d))


def variance(activations):
    return activations.transpose(0, 1).flatten(1).var(dim=1)


def test_a_checkpoint_holds_the_average_and_the_weights_by_name(tmp_path):
    saved = EveryCheckpoint(tmp_path, every_n_steps=100)
    noting, _ = fitted(EMA(decay=0.9), saved)
    path, live = saved.copies[-1], noting.steps[-1]
    averaged, default = read_state_dict(path, which="ema"), read_state_dict(path)
    assert all(torch.equal(read_state_dict(path, which="live")[name], live[name]) for name in live)
    assert all(torch.equal(averaged[name], default[name]) for name in live)
    assert any(not torch.equal(averaged[name], live[name]) for name in live)


def test_a_guard_gives_the_average_up_with_the_weights(monkeypatch):
    class Collapse(CatastrophicOverfittingGuard):
        def on_train_epoch_end(self, runner, module):
            if runner.current_epoch == 1:
                self.best = 2.0  # whatever is measured is a fall
            super().on_train_epoch_end(runner, module)

    noting = Noting()
    model = classifier(CrossEntropy(), **OPTIONS)
    with pytest.warns(UserWarning, match="training stops with the weights of the epoch before"):
        trainer(noting, Collapse(FGSM(eps=0.06)), EMA(decay=0.5), max_epochs=3, num_sanity_val_steps=0).fit(
            model, datamodule=SmallData()
        )
    assert len(noting.validated) == 2
    assert all(torch.equal(copied(model)[name], value) for name, value in noting.validated[0].items())


def test_attacks_meet_the_average():
    class Seen(AttackEvaluation):
        def evaluate(self, runner, model, images):
            self.weights = copied(model)
            return super().evaluate(runner, model, images)

    seen = Seen({"fgsm": FGSM(eps=0.06)}, pictures="never", max_samples=4)
    noting, _ = fitted(EMA(decay=0.9), seen, epochs=1)
    assert all(torch.equal(seen.weights[name], value) for name, value in noting.validated[0].items())


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"start": -0.1}])
def test_impossible_averages_are_refused(wrong):
    with pytest.raises(InputError, match=r"decay and start of EMA must lie in \[0, 1\)"):
        EMA(**wrong)
    with pytest.raises(InputError, match="SWA needs start_epoch >= 0"):
        SWA(start_epoch=-1)


def test_a_share_of_a_run_without_end_is_refused():
    with pytest.raises(InputError, match="this one has no end: set max_epochs or max_steps"):
        fitted(EMA(start=0.1), epochs=-1)
