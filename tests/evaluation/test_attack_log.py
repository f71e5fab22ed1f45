import re

import pytest
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM, PGD, DeepFool, WorstOf
from lightning_adv.callbacks import AttackEvaluation, ResultLines
from tests.callbacks.strangers import images, trainer

COUNT, EPS = 75, 0.06
WORST = WorstOf({"weak": FGSM(eps=EPS / 4), "strong": PGD(eps=EPS, steps=4)})
ATTACKS = {"fgsm": FGSM(eps=EPS), "worst": WORST, "nearest": DeepFool()}
SECONDS = re.compile(r" \(\d+\.\d s\)$")


def watched(model, capsys, folder=None, stage="validate", ready=lambda evaluation: None, callbacks=(), **options):
    """The result of an evaluation in five batches, and the lines about its attacks."""
    evaluation = AttackEvaluation(ATTACKS, verdicts=folder and str(folder), pictures="never", **options)
    ready(evaluation)
    loader = DataLoader(images(COUNT), batch_size=16)
    runner, quiet = trainer(*callbacks, evaluation, max_epochs=1), {} if stage == "fit" else {"verbose": False}
    getattr(runner, stage)(model, *[loader] * (1 + (stage == "fit")), **quiet)
    return evaluation.result, [
        SECONDS.sub("", line) for line in capsys.readouterr().out.splitlines() if SECONDS.search(line)
    ]


def expected(result, stages=True):
    """The lines, by the figures of the report."""
    fgsm, worst, nearest = result.attacks
    left = result.clean_correct
    yield f"fgsm: {fgsm.robust_accuracy:.1%} of {COUNT} images"
    for stage in worst.stages if stages else ():
        left -= stage.broken
        yield f"worst after {stage.name}: {left / COUNT:.1%} of {COUNT} images"
    yield f"worst: {worst.robust_accuracy:.1%} of {COUNT} images"
    yield f"nearest: no misclassified image for {nearest.robust_correct} of {COUNT} images"


def test_a_line_as_each_attack_and_each_stage_ends_has_the_figures_of_the_report(model, capsys):
    result, lines = watched(model, capsys, callbacks=[ResultLines()])
    assert lines == list(expected(result))
    assert len({line.partition(": ")[2] for line in lines[:3]}) == 3  # or they would prove little


def test_verdicts_of_an_earlier_process_count_and_do_not_pretend_to_know_their_stage(model, capsys, tmp_path):
    first, _ = watched(model, capsys, tmp_path, max_samples=40)
    result, lines = watched(model, capsys, tmp_path, callbacks=[ResultLines()])
    assert first.samples == 40
    assert lines == list(expected(result, stages=False))


def test_images_that_become_more_have_lines_each_time_of_all_up_to_there(model, capsys):
    def grow(evaluation):
        evaluation.grow = lambda done, share: 20 if done < 20 else COUNT

    result, lines = watched(model, capsys, callbacks=[ResultLines()], ready=grow)
    assert lines[len(lines) // 2 :] == list(expected(result))
    assert [re.search(r"of \d+ images", line)[0] for line in lines] == ["of 20 images"] * 5 + [f"of {COUNT} images"] * 5


@pytest.mark.parametrize(("stage", "callbacks"), [("fit", [ResultLines()]), ("validate", [])])
def test_a_training_and_a_trainer_of_ones_own_are_not_told(model, capsys, stage, callbacks):
    assert watched(model, capsys, stage=stage, callbacks=callbacks)[1] == []


def test_what_is_left_so_far_stands_in_the_lines_between(model, capsys, monkeypatch):
    monkeypatch.setattr("lightning_adv.evaluation.progress.SECONDS", 0.0)
    evaluation = AttackEvaluation(ATTACKS, pictures="never")
    trainer(ResultLines(), evaluation).validate(model, DataLoader(images(COUNT), batch_size=16), verbose=False)
    said = capsys.readouterr().out
    between = re.findall(
        r"^fgsm \+ .*: (\d) of 5 batches in .* left; fgsm \d+\.\d%; worst \d+\.\d%$", said, re.MULTILINE
    )
    assert between == ["1", "2", "3", "4"]
    assert re.search(r"^worst strong: \d+ passes in batch 3 of 5, 0:\d\d:\d\d$", said, re.MULTILINE)
