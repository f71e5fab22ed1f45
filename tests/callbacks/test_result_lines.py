import re

import pytest

from lightning_adv.attacks import FGSM
from lightning_adv.callbacks import AttackEvaluation, ResultLines
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import trainer


@pytest.mark.parametrize(("command", "stage"), [("validate", "val"), ("test", "test")])
def test_a_pass_prints_what_it_found_with_intervals_and_attacks(command, stage, capsys):
    evaluation = AttackEvaluation({"fgsm": FGSM(eps=0.06)}, max_samples=10, pictures="never")
    runner = trainer(ResultLines(), evaluation)
    getattr(runner, command)(classifier(), datamodule=SmallData(), verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"  {stage}/loss \d\.\d{{3}}  {stage}/clean_accuracy \d+\.\d%", lines[1])
    assert lines[2] == f"Adversarial attacks ({stage})"
    (row,) = (line for line in lines if line.startswith("  Robust accuracy, fgsm"))
    left = 100 * float(runner.callback_metrics[f"{stage}/fgsm/robust_accuracy"])
    assert re.search(rf"  {left:.1f}%  +[\d.]+\N{{EN DASH}}[\d.]+%  FGSM\(eps=0.06, norm=Linf\)$", row)


def test_a_fit_and_its_validations_print_nothing(capsys):
    trainer(ResultLines(), max_epochs=1).fit(classifier(), datamodule=SmallData())
    assert capsys.readouterr().out == ""
