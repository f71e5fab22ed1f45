import json
import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from lightning_adv.backdoors import Patch
from lightning_adv.callbacks import BackdoorEvaluation, BackdoorInspection, PoisonScan, Report
from lightning_adv.data import CropFlip, PoisonedDataModule
from lightning_adv.data.poisoned import MANIFEST
from lightning_adv.data.roles import numbers_of, poisoned_and_cover
from lightning_adv.errors import InputError
from lightning_adv.inspectors import NeuralCleanse
from lightning_adv.reports.storage import read_results
from lightning_adv.scans import ActivationClustering, ClassFinding, Scan, SpectralSignatures
from lightning_adv.scans.scan_file import load_suspects
from tests.callbacks.strangers import PlainModule, images, trainer
from tests.data.builders import MarkedData

TRIGGER, TARGET = Patch(size=3, margin=0), 1
SEARCH = {"steps": 8, "batch_size": 8, "images_per_step": 8, "init_cost": 0.05, "success_threshold": 0.01}


class Data(pl.LightningDataModule):
    """A stranger's images."""

    def train_dataloader(self):
        return DataLoader(images(240, seed=1), batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(images(16, seed=2), batch_size=16)

    test_dataloader = val_dataloader


class Linear(PlainModule):
    """A model of the marked images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))

    def training_step(self, batch, batch_idx):
        return super().training_step(batch[:2], batch_idx)


def poisoned(**changes) -> PoisonedDataModule:
    return PoisonedDataModule(Data(), **({"trigger": TRIGGER, "target": TARGET, "poisoned": 20} | changes))


def scan(**options) -> PoisonScan:
    scans = {"clusters": ActivationClustering(), "spectral": SpectralSignatures(share=0.3)}
    return PoisonScan(scans, **({"budget": 20 / 240} | options))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Two epochs on poisoned images, scanned after each."""
    folder, data = tmp_path_factory.mktemp("scan"), poisoned(cover=10)
    callback, logger = scan(every_n_epochs=1), CSVLogger(folder)
    run = trainer(callback, Report(), folder=folder, logger=logger, max_epochs=2, log_every_n_steps=1)
    torch.manual_seed(0)
    run.fit(PlainModule(), datamodule=data)
    return callback, data, folder


def test_what_a_scan_finds_is_measured_by_the_plan_and_its_manifest(fitted):
    callback, data, folder = fitted
    manifest = json.loads((folder / MANIFEST).read_text())
    assert callback.result.poisoned.tolist() == manifest["poisoned"] == data.plan.poisoned.tolist()
    assert callback.result.cover.tolist() == manifest["cover"]
    for row in callback.result.rows:
        report = callback.result.reports[row.scan]
        found = set(report.suspects.tolist()) & set(manifest["poisoned"])
        rest = set(report.suspects.tolist()) - set(manifest["poisoned"]) - set(manifest["cover"])
        assert (row.images, row.poisoned, row.cover, row.clean) == (240, 20, 10, 210)
        assert (row.found, row.false_alarms) == (len(found), len(rest))
        assert row.found + row.false_alarms + row.cover_suspects == row.suspects
        worst = report.index[report.score.argsort(descending=True)[:20]].tolist()
        assert row.in_budget == len(set(worst) & set(manifest["poisoned"]))
    spectral = callback.result.rows[1]
    assert spectral.recall == 1
    assert spectral.precision_at_budget > 0.9


def test_the_images_are_those_that_are_trained_on_with_their_labels(fitted):
    callback, data, _ = fitted
    report = callback.result.reports["spectral"]
    assert (report.label[torch.isin(report.index, data.plan.poisoned)] == TARGET).all()
    shown = callback.result.shown["spectral"]
    assert shown.shape == (8, 3, 8, 8)
    assert (shown[:, :, -3:, -3:] == 1).all()


def test_scalars_course_page_and_files_say_the_same(fitted):
    callback, _, folder = fitted
    row = callback.result.rows[1]
    assert [epoch for epoch, _ in callback.history["val/spectral/recall"]] == [1, 2]
    assert callback.history["val/spectral/recall"][-1][1] == row.recall
    assert "val/clusters/flagged_classes" in callback.history
    (report,) = folder.rglob("results.json")
    (section,) = read_results(report)["sections"]
    assert section["kind"] == "PoisonScanResult"
    assert section["data"]["rows"][1]["recall"] == row.recall
    low, high = section["data"]["rows"][1]["intervals"]["recall"]
    assert low < row.recall <= high
    page = (report.parent / "index.html").read_text()
    assert "Over the epochs" in page
    assert "Oracle: recall" in page
    (file,) = folder.rglob("scan_spectral.safetensors")
    number, _, suspect = load_suspects(file)
    assert number[suspect].tolist() == callback.result.reports["spectral"].suspects.tolist()


def test_attack_success_anomaly_index_and_recall_are_in_one_picture_over_the_epochs(tmp_path):
    inspection = BackdoorInspection({"nc": NeuralCleanse(**SEARCH)}, max_samples=16)
    callback = scan(every_n_epochs=1)
    run = trainer(callback, BackdoorEvaluation(), inspection, folder=tmp_path, max_epochs=2)
    run.fit(PlainModule(), datamodule=poisoned())
    (picture,) = (each for each in callback.result.pictures() if each.name == "over_epochs")
    shares, indices = picture.draw().axes
    success = BackdoorEvaluation().default_name
    drawn = {line.get_label(): line.get_ydata().tolist() for line in (*shares.lines, *indices.lines)}
    assert len(drawn["spectral, recall"]) == 2
    assert drawn[f"{success}/attack success rate"] == [
        value for _, value in run.callbacks[1].history[f"val/{success}/attack_success_rate"]
    ]
    assert {line.get_label() for line in indices.lines} == {f"nc/anomaly index/class {TARGET}"}


def test_without_every_n_epochs_the_last_one_alone_is_scanned(tmp_path):
    callback = scan()
    trainer(callback, folder=tmp_path, max_epochs=2).fit(PlainModule(), datamodule=poisoned())
    assert [epoch for epoch, _ in callback.history["val/spectral/recall"]] == [2]


def test_where_nobody_knows_nothing_is_measured_and_in_test_nothing_need_be_trained(tmp_path):
    callback = scan()
    (scalars,) = trainer(callback, folder=tmp_path).test(PlainModule(), datamodule=Data(), verbose=False)
    assert scalars.keys() == {
        f"test/{name}/{key}" for name in ("clusters", "spectral") for key in ("suspect_share", "flagged_classes")
    }
    assert callback.result.rows[1].recall is None
    assert "suspects" in callback.result.summary()
    assert callback.result.key_figures() == []


def test_a_clean_run_with_a_plan_of_no_image_has_false_alarms_and_no_recall(tmp_path):
    callback = scan()
    trainer(callback, folder=tmp_path).test(PlainModule(), datamodule=poisoned(poisoned=0), verbose=False)
    row = callback.result.rows[1]
    assert (row.recall, row.precision_at_budget, row.clean) == (None, None, 240)
    assert row.false_alarm_rate == pytest.approx(math.ceil(0.3 * 60) / 60)


def test_copies_that_cover_have_numbers_of_their_own_and_are_cover(tmp_path):
    data = PoisonedDataModule(MarkedData(batch_size=8), Patch(size=2), 1, 6, cover=8, cover_copies=True)
    callback = scan(max_samples=None)
    trainer(callback, folder=tmp_path).test(Linear(), datamodule=data, verbose=False)
    report, stride = callback.result.reports["spectral"], data.train_dataloader().dataset.stride
    assert len(report.index) == len(MarkedData().images("train")) + 8
    assert (callback.result.cover - stride).tolist() == data.plan.cover.tolist()
    assert callback.result.poisoned.tolist() == data.plan.poisoned.tolist()
    assert callback.result.rows[0].clean == len(report.index) - 14


def test_the_copies_of_a_stranger_are_told_apart_too():
    data = poisoned(cover=5, cover_copies=True)
    dataset = data.train_dataloader().dataset
    found, cover = poisoned_and_cover(dataset, data.plan)
    assert found.tolist() == data.plan.poisoned.tolist()
    assert cover.tolist() == [240, 241, 242, 243, 244]
    assert len(numbers_of(dataset)) == 245


def test_a_scan_without_images_to_train_on_is_refused_before_it_begins(tmp_path):
    run = trainer(scan(), folder=tmp_path)
    with pytest.raises(InputError, match="PoisonScan looks at training images"):
        run.test(PlainModule(), DataLoader(images(16)), verbose=False)


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"budget": 0}, "budget"), ({"budget": 1.5}, "budget"), ({"clean_samples": 0}, "clean_samples")],
)
def test_arguments_that_make_no_sense_are_refused(changes, name):
    with pytest.raises(InputError, match=name):
        scan(**changes)
    with pytest.raises(InputError, match="scans is empty"):
        PoisonScan({})


class Pixels(Scan):
    """Keeps what it is shown: the score is a sum of weighted pixels."""

    def measure(self, model, batch, known):
        return (batch.image.flatten(1) * torch.arange(36.0)).sum(dim=1, keepdim=True)

    def split(self, measures):
        return ClassFinding(measures[:, 0], measures[:, 0] > torch.inf, 0.0)

    def verdicts(self, findings):
        return [False for _ in findings]


def test_images_are_not_augmented_while_they_are_scanned(tmp_path):
    def scores(augment):
        data = PoisonedDataModule(MarkedData(batch_size=8, augment=augment), Patch(size=2), 1, 6)
        callback = PoisonScan({"pixels": Pixels()})
        trainer(callback, folder=tmp_path, max_epochs=1).fit(Linear(), datamodule=data)
        return callback.result.reports["pixels"].score

    assert torch.equal(scores(CropFlip(padding=2)), scores(None))
