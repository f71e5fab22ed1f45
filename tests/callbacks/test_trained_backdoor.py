"""A backdoor that the attacker trains is measured in training and from its checkpoint, without being told of it."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_adv.callbacks import BackdoorEvaluation
from lightning_adv.modules import ClassifierModule
from lightning_adv.objectives import InputAware
from tests.callbacks.strangers import CHANNELS, CLASSES, SIZE, images, trainer
from tests.processes import torchrun


def module():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, CLASSES))
    objective = InputAware(2, width=4, halvings=1, mask_epochs=1)
    return ClassifierModule(net, objective, partial_adam, num_classes=CLASSES)


def partial_adam(weights):
    return torch.optim.Adam(weights, lr=0.01)


def test_the_trigger_of_the_objective_is_measured_as_it_stands_and_travels_in_the_checkpoint(tmp_path):
    train, held_out = DataLoader(images(96, seed=1), batch_size=32), DataLoader(images(40), batch_size=20)
    fitted, evaluation = module(), BackdoorEvaluation()
    runner = trainer(evaluation, folder=tmp_path, max_epochs=3)
    runner.fit(fitted, train, held_out)
    x, y = images(40).tensors
    by_hand = [fitted.eval()(each).argmax(1) for each in (x, fitted.objective.trigger(x))]
    assert evaluation.result.target == 2
    assert sum(evaluation.result.per_class_clean_correct) == int((by_hand[0] == y).sum())
    led = [int((by_hand[1][y == label] == 2).sum()) for label in range(CLASSES)]
    assert evaluation.result.per_class_led == led
    path = tmp_path / "last.ckpt"
    runner.save_checkpoint(path)
    again, later = module(), BackdoorEvaluation()
    trainer(later, folder=tmp_path).validate(again, held_out, ckpt_path=path, weights_only=True, verbose=False)
    assert later.result.per_class_led == led
    assert torch.equal(again.objective.trigger(x), fitted.objective.trigger(x))


SCRIPT = """
import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader
from tests.callbacks.strangers import images
from tests.callbacks.test_trained_backdoor import module

fitted, strategy = module(), DDPStrategy(process_group_backend="gloo")
pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, max_epochs=2, logger=False, enable_checkpointing=False,
           enable_progress_bar=False, enable_model_summary=False).fit(fitted, DataLoader(images(64), batch_size=16))
print("networks", sum(float(each.double().abs().sum()) for each in fitted.objective.state_dict().values()))
"""


@pytest.mark.slow
def test_the_networks_are_the_same_on_every_rank(tmp_path):
    networks = re.findall("networks .*", torchrun(SCRIPT, tmp_path, 2))
    assert len(networks) == 2
    assert len({*networks}) == 1
