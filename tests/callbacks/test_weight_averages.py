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
from tests.processes import torchrun

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
    images = data.images("train")
    *whole, rest = float_images(images[torch.arange(len(images))].image).split(data.batch_size)
    assert len(rest) < data.batch_size
    assert_measured_on(whole, model)


def assert_measured_on(batches, model):
    """The statistics of the first BatchNorm are the mean of the batches' own."""
    module, inputs = first_norm(model.backbone), []
    handle = module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        for batch in batches:
            model.eval()(batch)
    handle.remove()
    torch.testing.assert_close(module.running_mean, torch.stack([each.mean(dim=(0, 2, 3)) for each in inputs]).mean(0))
    torch.testing.assert_close(module.running_var, torch.stack([variance(each) for each in inputs]).mean(dim=0))


def first_norm(network):
    return next(each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d))


def variance(activations):
    return activations.transpose(0, 1).flatten(1).var(dim=1)


def test_an_image_that_is_left_over_does_not_end_the_training():
    """Its maps shrink to one position, of which there is no variance."""
    _, model = fitted(SWA(start_epoch=0, samples=17))
    assert torch.isfinite(first_norm(model.backbone).running_var).all()


SCRIPT = """
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from lightning_adv.callbacks import SWA
from lightning_adv.evaluation.share import Share, training_loader
from lightning_adv.objectives import CrossEntropy
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.test_weight_averages import OPTIONS, Noting

class Shown(Noting):  # and the images that statistics are measured on
    def on_train_end(self, runner, module):
        share = Share(runner, training_loader(runner, "Shown"), 31, None, seed=0)
        self.images = [batch.image for batch in share if len(batch.image) == 8]

shown = Shown()
run = pl.Trainer(max_epochs=3, callbacks=[shown, SWA(start_epoch=1, samples=31)], accelerator="cpu", devices=2,
                 strategy=DDPStrategy(process_group_backend="gloo"), logger=False, enable_checkpointing=False,
                 enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)
run.fit(classifier(CrossEntropy(), **OPTIONS), datamodule=SmallData())
torch.save([shown.steps[1::2], shown.validated[-1], shown.images], f"{run.global_rank}.pt")
"""


@pytest.mark.slow
def test_two_ranks_have_one_mean_with_statistics_of_the_images_of_both(tmp_path):
    torchrun(SCRIPT, tmp_path, 2)
    (ends, shown, images), (_, other, more) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(shown[name], other[name]) for name in shown)
    model = classifier(CrossEntropy(), **OPTIONS)
    model.load_state_dict(shown, strict=False)
    for name, _ in model.named_parameters():
        torch.testing.assert_close(shown[name], (ends[1][name] + ends[2][name]) / 2)
    assert (len(images), len(more)) == (2, 1), "16 images and 15, in whole batches of 8, all of equal weight"
    assert_measured_on([*images, *more], model)


def test_a_checkpoint_holds_the_average_and_the_weights_by_name(tmp_path):
    saved = EveryCheckpoint(tmp_path, every_n_steps=100)
    noting, _ = fitted(EMA(decay=0.9), saved)
    path, live = saved.copies[-1], noting.steps[-1]
    averaged, by_name, default = (read_state_dict(path, **each) for each in ({"which": "ema"}, {"which": "live"}, {}))
    assert all(torch.equal(by_name[name], live[name]) for name in live)
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
    with pytest.warns(UserWarning, match="training stops with the weights of the last good epoch"):
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
