import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM, PGD, SampleNoise, Square
from lightning_adv.callbacks import PurificationEvaluation
from lightning_adv.errors import InputError
from lightning_adv.purifiers import BitDepth, GaussianBlur, PurifiedClassifier, Purifier, TotalVariation
from tests.callbacks.strangers import CHANNELS, PlainModule, images, trainer

COUNT = 40


class OneChannel(Purifier):
    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        raise InputError(f"takes 1 channel, got {x.shape[1]}")


def evaluation(**options: object) -> PurificationEvaluation:
    arguments = {
        "purifiers": {"bits": BitDepth(3), "tv": TotalVariation(steps=8)},
        "attacks": {"fgsm": FGSM(0.1), "pgd": PGD(0.1, steps=3)},
        "draws": 3,
        "attack_draws": 2,
    }
    return PurificationEvaluation(**(arguments | options))


def validated(model: PlainModule, callback: PurificationEvaluation, count: int = COUNT):
    trainer(callback).validate(model, DataLoader(images(count), batch_size=16), verbose=False)
    return callback.result


def test_counts_what_a_hand_written_loop_counts(model):
    result = validated(model, evaluation())
    x, y = images(COUNT).tensors
    index = torch.arange(COUNT)
    model.eval()
    whole = PurifiedClassifier(TotalVariation(steps=8), model)
    blind = FGSM(0.1)(model, x, y, index=index)
    adaptive = whole.attacked(FGSM(0.1), "adaptive", x, y, index, draws=2)
    for attacked, threat in ((blind, "blind"), (adaptive, "adaptive")):
        right = whole.judge(attacked, index, draws=3).argmax(dim=2) == y
        row = result.find("tv", "fgsm", threat)
        assert row.correct == right.sum(dim=1).tolist()
        assert row.worst_correct == int(right.all(dim=0).sum())
    with torch.no_grad():
        assert result.find("none", "fgsm", "none").correct[0] == int((model(blind).argmax(dim=1) == y).sum())


def test_one_draw_is_enough(model):
    rows = validated(model, evaluation(draws=1, attacks={"fgsm": FGSM(0.1)}), count=8).rows
    assert all(row.correct == [row.mean_correct] for row in rows)


def test_results_do_not_depend_on_the_batch_size(model):
    assert validated(model, evaluation(batch_size=7)).scalars() == validated(model, evaluation()).scalars()


def test_threat_models_that_say_nothing_more_are_left_out(model):
    threats = [*evaluation().threat_models, "black_box"]
    result = validated(model, evaluation(threat_models=threats, black_box=Square(0.1, queries=5)), count=12)
    rows = [row for row in result.rows if row.attack == "pgd"]
    measured = {name: [row.threat for row in rows if row.purifier == name] for name in ("bits", "tv")}
    assert measured == {"bits": ["blind", "bpda"], "tv": ["blind", "bpda", "bpda_eot", "adaptive"]}
    assert result.find("bits", "square", "black_box").samples == 12


def test_tables_pictures_and_scalars_are_made(model):
    result = validated(model, evaluation(examples=3), count=16)
    assert {"bits/clean_accuracy", "tv/pgd/adaptive/robust_accuracy", "tv/informed_accuracy"} <= result.scalars().keys()
    assert {table.title for table in result.tables()} >= {"Accuracy by what the attacker knows"}
    names = [picture.name for picture in result.pictures()]
    assert names == ["threats", "fgsm_blind", "fgsm_informed", "pgd_blind", "pgd_informed", "confusion"]
    for picture in result.pictures():
        assert picture.draw().axes
    assert result.as_dict()["rows"][0]["accuracy"] == result.rows[0].accuracy


def test_logs_under_its_name_and_training_goes_on_as_if_there_were_no_evaluation():
    def weights(*callbacks):
        torch.manual_seed(3)
        plain = PlainModule()
        runner = trainer(*callbacks, max_epochs=1)
        runner.fit(plain, DataLoader(images(32), batch_size=8, shuffle=True), DataLoader(images(16), batch_size=8))
        return plain.state_dict(), runner.callback_metrics

    (without, _), (evaluated, logged) = weights(), weights(evaluation())
    assert all(torch.equal(without[key], evaluated[key]) for key in without)
    assert "val/purification/tv/fgsm/adaptive/robust_accuracy" in logged


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"purifiers": {}}, "at least one of purifiers"),
        ({"attacks": {"a/b": FGSM()}}, "nor hold a slash"),
        ({"threat_models": ["grey_box"]}, "threat_models must be some of"),
        ({"threat_models": ["black_box"]}, "go together"),
        ({"draws": 0}, "draws of PurificationEvaluation must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        evaluation(**arguments)


@pytest.mark.parametrize(
    ("purifier", "message"), [(OneChannel(), f"takes 1 channel, got {CHANNELS}"), (GaussianBlur(9, 9), "lower it")]
)
def test_a_purifier_that_does_not_fit_is_refused_before_the_first_step(purifier, message):
    runner = trainer(evaluation(purifiers={"wrong": purifier}), max_epochs=1, num_sanity_val_steps=0)
    with pytest.raises(InputError, match=message):
        runner.fit(PlainModule(), DataLoader(images(16), batch_size=8), DataLoader(images(16), batch_size=8))
    assert runner.global_step == 0
