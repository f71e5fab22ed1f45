import json
import subprocess

import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.attacks import FGSM, AutoAttack
from lightning_adv.backdoors import Patch
from lightning_adv.callbacks import AttackEvaluation, BackdoorEvaluation, Report, TimeBudget
from lightning_adv.errors import InputError
from lightning_adv.reports.robustbench import Submission
from tests.callbacks.recipes import SmallData, classifier
from tests.callbacks.strangers import PlainModule, images, trainer


def evaluation(**options):
    return AttackEvaluation({"fgsm": FGSM(eps=0.06)}, **options)


def results(folder):
    return json.loads((folder / "report" / "results.json").read_text())


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_validate_and_test_write_a_report(model, tmp_path, stage):
    each = evaluation()
    runner = trainer(Report(title="Mine"), each, folder=tmp_path)
    getattr(runner, stage)(model, DataLoader(images(40), batch_size=8), verbose=False)
    written = results(tmp_path)
    (section,) = written["sections"]
    assert written["title"] == "Mine"
    assert section["stage"] == {"validate": "val", "test": "test"}[stage]
    assert section["data"]["samples"] == 40
    assert section["scalars"] == pytest.approx(each.result.scalars())
    assert "Mine" in (tmp_path / "report" / "index.html").read_text()


def test_autoattack_leaves_an_entry_of_robustbench_that_is_no_claim(model, tmp_path):
    budget = TimeBudget(minutes=None)
    budget.cuts.append("attacks: 40 images to 16")
    told = Submission(name="A paper")
    by = AttackEvaluation({"aa": AutoAttack(eps=0.6)}, max_samples=16)
    trainer(Report(robustbench=told), by, budget, folder=tmp_path).test(model, DataLoader(images(40)), verbose=False)
    info = json.loads((tmp_path / "report" / "model_info.json").read_text())
    assert (info["name"], info["eps"], info["images"], info["claim"]) == ("A paper", "0.6", 16, False)
    assert info["autoattack_acc"] == f"{100 * by.result.worst_case_accuracy:.2f}"
    assert info["clean_acc"] == f"{100 * by.result.clean_accuracy:.2f}"
    assert "a set that is not told is none of RobustBench's image sets; cut to fit the time." in info["footnote"]
    run = results(tmp_path)["run"]
    assert (run["model"], run["data"], run["weights"], run["cuts"]) == ("PlainModule", None, {}, budget.cuts)


def test_a_fit_leaves_a_report_with_a_curve_of_every_scalar(tmp_path):
    each, rare = evaluation(), evaluation(every_n_epochs=2, name="rare")
    report = Report(self_contained=True)
    runner = trainer(report, each, rare, folder=tmp_path, max_epochs=3, num_sanity_val_steps=0)
    runner.fit(classifier(), datamodule=SmallData())
    history = results(tmp_path)["history"]
    for key in ("train/loss", "train/robust_accuracy", "val/loss", "val/clean_accuracy", "val/fgsm/robust_accuracy"):
        assert [epoch for epoch, _ in history[key]] == [1, 2, 3], key
    assert [epoch for epoch, _ in history["val/rare/fgsm/robust_accuracy"]] == [2, 3]
    assert "train/loss_step" not in history
    measured = [value for _, value in each.history["val/fgsm/robust_accuracy"]]
    assert [value for _, value in history["val/fgsm/robust_accuracy"]] == pytest.approx(measured)
    assert results(tmp_path)["title"] == "mnist_cnn on SmallData"
    page = (tmp_path / "report/index.html").read_text()
    assert 'src="data:image/png' in page
    assert not (tmp_path / "report" / "pictures").exists()
    weights = sum(each.numel() for each in classifier().parameters())
    assert f'<p class="origin">mnist_cnn on tests.callbacks.recipes.SmallData · {weights:,} parameters</p>' in page


class Bands(PlainModule):
    """Of images of any number of channels: the sum of each quarter's first row tells the class."""

    def forward(self, x):
        return x.flatten(2).sum(1)[:, :4]


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_channels_that_no_screen_shows_are_shown_by_their_mean(channels, tmp_path):
    x = torch.rand(8, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    few = DataLoader(TensorDataset(x, torch.arange(8) % 4), batch_size=8)
    door = BackdoorEvaluation(trigger=Patch(size=2), target=1)
    callbacks = (Report(), evaluation(save_images=2), door)
    trainer(*callbacks, folder=tmp_path).test(Bands(), few, verbose=False)
    assert [each["kind"] for each in results(tmp_path)["sections"]] == ["RobustnessResult", "BackdoorResult"]
    (first, *_) = (tmp_path / "adversarial").rglob("*.png")
    with Image.open(first) as picture:
        assert picture.mode == "L"


class StopIn(Callback):
    """Raises in an epoch."""

    def __init__(self, error, epoch=2):
        self.error, self.epoch = error, epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise self.error


def interrupted(folder, error):
    runner = trainer(Report(), evaluation(), StopIn(error), folder=folder, max_epochs=3, num_sanity_val_steps=0)
    loader = DataLoader(images(16), batch_size=8)
    with pytest.raises(type(error)):
        runner.fit(PlainModule(), loader, loader)


def test_an_interrupted_run_reports_what_it_has(tmp_path):
    interrupted(tmp_path, RuntimeError("out of memory"))
    assert results(tmp_path)["sections"][0]["epoch"] == 2


def test_what_was_measured_survives_a_users_mistake(tmp_path):
    interrupted(tmp_path, InputError("no"))
    assert results(tmp_path)["sections"][0]["epoch"] == 2


class Refuses(AttackEvaluation):
    """Finds only when it is its turn that it cannot work."""

    def evaluate(self, trainer, model, images):
        raise InputError("there is nothing to detect")


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_finished_evaluation_survives_the_error_of_the_next_one(model, tmp_path, stage):
    first, second = evaluation(), Refuses({"fgsm": FGSM(eps=0.06)}, name="refuses")
    with pytest.raises(InputError, match="there is nothing to detect"):
        getattr(trainer(Report(), first, second, folder=tmp_path), stage)(model, DataLoader(images(40)), verbose=False)
    (section,) = results(tmp_path)["sections"]
    assert section["scalars"] == pytest.approx(first.result.scalars())


def test_an_evaluation_that_is_cut_short_leaves_the_report_of_a_whole_one_before(model, tmp_path):
    loader = DataLoader(images(8))
    trainer(Report(), evaluation(), folder=tmp_path).test(model, loader, verbose=False)
    whole = results(tmp_path)
    refuses = Refuses({"fgsm": FGSM(eps=0.06)}, name="refuses")
    with pytest.raises(InputError):
        trainer(Report(), evaluation(), refuses, folder=tmp_path).test(model, loader, verbose=False)
    assert results(tmp_path) == whole


def test_a_run_that_measured_nothing_leaves_no_report(tmp_path):
    runner = trainer(Report(), evaluation(), StopIn(InputError("no"), epoch=0), folder=tmp_path, max_epochs=1)
    with pytest.raises(InputError):
        runner.fit(PlainModule(), DataLoader(images(16), batch_size=8), DataLoader(images(16), batch_size=8))
    assert not (tmp_path / "report").exists()


def test_a_missing_baseline_stops_the_run_before_training(tmp_path):
    runner = trainer(Report(baselines={"standard": "nowhere/results.json"}), folder=tmp_path, max_epochs=1)
    model = PlainModule()
    with pytest.raises(InputError, match=r"baseline 'standard' of Report: there is no nowhere/results\.json"):
        runner.fit(model, DataLoader(images(8)), DataLoader(images(8)))
    assert runner.global_step == 0


def test_a_baseline_stands_beside_the_new_figures(model, tmp_path):
    loader = DataLoader(images(40), batch_size=8)
    first, second = tmp_path / "first", tmp_path / "second"
    trainer(Report(), evaluation(), folder=first).validate(model, loader, verbose=False)
    baseline = {"before": str(first / "report" / "results.json")}
    trainer(Report(baselines=baseline), evaluation(), folder=second).validate(model, loader, verbose=False)
    kept = results(second)["baselines"]["before"]["sections"][0]["scalars"]
    assert kept == results(first)["sections"][0]["scalars"]


def test_a_quick_check_writes_nothing(tmp_path):
    runner = trainer(Report(), evaluation(), folder=tmp_path, fast_dev_run=1)
    runner.fit(PlainModule(), DataLoader(images(8)), DataLoader(images(8)))
    assert not (tmp_path / "report").exists()


def commit(folder, text):
    (folder / "code.py").write_text(text)
    for arguments in (["init"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", text]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return said.stdout.strip()


class WorksOn(Callback):
    """Its user commits while the run goes on, and changes a file."""

    def on_validation_start(self, trainer, pl_module):
        commit(trainer.user, "of later")
        (trainer.user / "code.py").write_text("unfinished")


def test_a_report_names_the_commit_that_the_run_began_with(model, tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    began_with = commit(tmp_path / "code", "of before")
    runner = trainer(Report(), WorksOn(), evaluation(), folder=tmp_path)
    runner.user = tmp_path / "code"
    runner.validate(model, DataLoader(images(8)), verbose=False)
    run = results(tmp_path)["run"]
    assert (run["commit"], run["dirty"]) == (began_with, False)
