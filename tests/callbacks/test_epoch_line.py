import re

import pytest

from lightning_adv.attacks import FGSM
from lightning_adv.callbacks import AttackEvaluation, EpochLine
from lightning_adv.callbacks.epoch_line import _is_headline, _short
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import trainer


def test_one_line_an_epoch_with_what_was_measured_in_it(capsys):
    evaluation = AttackEvaluation({"fgsm": FGSM(eps=0.06)}, every_n_epochs=2, pictures="never")
    runner = trainer(EpochLine(), evaluation, max_epochs=3, num_sanity_val_steps=0, check_val_every_n_epoch=1)
    runner.fit(classifier(), datamodule=SmallData())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    for line in lines:
        assert re.search(r"  loss \d\.\d{3}  .*\d+\.\d s(, 0:\d\d:\d\d left)?$", line)
        assert re.search(r"  train robust \d+\.\d%", line)
        assert re.search(r"  clean \d+\.\d%", line)
    assert ["fgsm" in line for line in lines] == [False, True, True]
    assert [line.endswith("left") for line in lines] == [True, True, False]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("val/clean_accuracy", "clean"),
        ("val/pgd20/robust_accuracy", "pgd20"),
        ("val/worst_case/robust_accuracy", "worst case"),
        ("val/badnets/attack_success_rate", "badnets attack success"),
        ("val/tact/false_activation_rate", "tact false activation"),
        ("train/robust_accuracy", "train robust"),
        ("train/clean_accuracy", "train clean"),
        ("train/loss", "loss"),
    ],
)
def test_names_are_short(key, name):
    assert _short(key) == name
    assert _is_headline(key) == (key != "train/loss")
