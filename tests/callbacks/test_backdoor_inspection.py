import json
import math
from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.backdoors import load_triggers
from lightning_adv.callbacks import BackdoorInspection, Report
from lightning_adv.errors import InputError
from lightning_adv.inspectors import MMBD, DeepInspect, NeuralCleanse, second_look
from lightning_adv.modules import ClassifierModule, load_classifier
from lightning_adv.reports.storage import read_results
from tests.callbacks.strangers import CHANNELS, SIZE, PlainModule, trainer
from tests.inspectors.problems import PatchModel, block_images
from tests.processes import torchrun

CLASSES, TARGET = 7, 4
QUICK = {"steps": 60, "batch_size": 16, "images_per_step": 32, "init_cost": 1e-2}


class Suspicious(PlainModule):
    """A module with a hidden door, trained by a step that changes nothing of it."""

    def __init__(self, classes: int = CLASSES, target: int = TARGET) -> None:
        super().__init__()
        self.net = PatchModel(classes, target)


def loader(count=56, size=12):
    return DataLoader(TensorDataset(*block_images((1, size, size), CLASSES, count)), batch_size=16)


def cleanse(**options):
    return NeuralCleanse(**(QUICK | options))


def in_test(callback, folder, **options):
    runner = trainer(callback, folder=folder, **options)
    (scalars,) = runner.test(Suspicious(), loader(), verbose=False)
    return callback.result, scalars


def test_gives_the_report_of_the_inspector_itself(tmp_path):
    result, scalars = in_test(BackdoorInspection({"neural_cleanse": cleanse()}, max_samples=None), tmp_path)
    alone = cleanse()(Suspicious(), loader())
    report = result.reports["neural_cleanse"]
    assert report.norms == alone.norms
    assert torch.equal(report.masks, alone.masks)
    assert report.flagged == [TARGET]
    assert scalars["test/neural_cleanse/anomaly_index/class_4"] == pytest.approx(alone.anomaly_index[TARGET])
    assert scalars["test/neural_cleanse/norm/class_0"] == pytest.approx(alone.norms[0])
    assert scalars["test/neural_cleanse/p_value"] == pytest.approx(alone.p_value)
    assert scalars["test/neural_cleanse/flagged_classes"] == 1


def test_two_classes_are_said_to_have_no_verdict_before_the_search_and_in_what_it_leaves(tmp_path):
    data = DataLoader(TensorDataset(*block_images((1, 8, 8), 2, 16)), batch_size=16)
    callback = BackdoorInspection({"nc": cleanse(steps=30)})
    runner = trainer(callback, Report(), folder=tmp_path)
    with pytest.warns(UserWarning, match="nc: no verdict: of 2 norms"):
        (scalars,) = runner.test(Suspicious(2, 1), data, verbose=False)
    assert not [key for key in scalars if "flagged" in key or "anomaly_index" in key or "p_value" in key]
    (section,) = read_results(tmp_path / "report")["sections"]
    assert section["data"]["inspectors"]["nc"]["flagged"] is None
    assert "nc has no verdict" in (tmp_path / "report" / "index.html").read_text()
    assert "flagged" not in load_triggers(tmp_path / "triggers.safetensors").metadata


def test_the_triggers_found_are_in_the_folder_of_the_run(tmp_path):
    inspectors = {"neural_cleanse": cleanse(), "deep_inspect": DeepInspect(steps=100, hidden=16, draws=5)}
    result, _ = in_test(BackdoorInspection(inspectors), tmp_path)
    saved = load_triggers(tmp_path / "triggers.safetensors")
    report = result.reports["neural_cleanse"]
    assert saved.labels.tolist() == report.labels
    assert torch.equal(saved.masks, report.masks)
    assert torch.equal(saved.patterns, report.patterns)
    assert saved.metadata["flagged"] == str(TARGET)
    assert len(load_triggers(tmp_path / "triggers_deep_inspect.safetensors").labels) > 0


def test_the_name_of_an_inspector_does_not_lead_out_of_the_folder_of_the_run(tmp_path):
    inspectors = {name: cleanse(steps=30) for name in ("first", "../../outside", "a/b")}
    in_test(BackdoorInspection(inspectors), tmp_path / "runs" / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert len(list((tmp_path / "runs" / "one").glob("triggers*.safetensors"))) == 3


def test_triggers_that_never_succeeded_are_not_saved(tmp_path):
    runner = trainer(BackdoorInspection({"nc": cleanse(steps=1)}), folder=tmp_path)
    with pytest.warns(UserWarning, match="found no trigger"):
        runner.test(Suspicious(), loader(), verbose=False)
    assert not (tmp_path / "triggers.safetensors").exists()


def test_max_samples_limits_the_clean_images(tmp_path):
    callback = BackdoorInspection({"nc": cleanse(steps=30)}, max_samples=20)
    assert in_test(callback, tmp_path)[0].samples == 20


def fitted(folder, epochs=3, **options):
    callback = BackdoorInspection({"neural_cleanse": cleanse(steps=40)}, max_samples=None, **options)
    logger = CSVLogger(folder)
    runner = trainer(callback, Report(), folder=folder, logger=logger, max_epochs=epochs, log_every_n_steps=1)
    runner.fit(Suspicious(), loader(), loader())
    return callback, Path(logger.log_dir)


def test_runs_in_fit_and_draws_the_course_over_the_epochs(tmp_path):
    callback, folder = fitted(tmp_path)
    points = callback.history["val/neural_cleanse/anomaly_index/class_4"]
    assert [epoch for epoch, _ in points] == [1, 2, 3]
    (section,) = read_results(folder / "report")["sections"]
    assert section["kind"] == "InspectionResult"
    assert [Path(name).stem.rpartition("neural_cleanse_")[2] for name in section["pictures"]] == ["triggers"]
    page = (folder / "report/index.html").read_text()
    assert page.count("<svg") >= 2, "the index of each class, and its course over the epochs"
    assert section["data"]["inspectors"]["neural_cleanse"]["settings"].startswith("NeuralCleanse(steps=40,")
    assert list((folder / "media").rglob("neural_cleanse_triggers*.png"))
    assert (folder / "triggers.safetensors").is_file()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_the_precision_of_the_trainer_does_not_matter_to_the_verdict(precision, tmp_path):
    result, _ = in_test(BackdoorInspection({"nc": cleanse(steps=100)}, max_samples=None), tmp_path, precision=precision)
    assert TARGET in result.reports["nc"].flagged


def test_without_an_inspector_there_is_nothing_to_do():
    with pytest.raises(InputError, match="inspectors is empty"):
        BackdoorInspection({})


class NoLogits(PlainModule):
    def forward(self, x):
        return x


def test_a_forward_that_gives_no_logits_is_refused_before_training():
    images = TensorDataset(torch.rand(8, CHANNELS, SIZE, SIZE), torch.arange(8) % 4)
    runner = trainer(BackdoorInspection({"nc": cleanse()}), max_epochs=1)
    with pytest.raises(InputError, match="rows of logits"):
        runner.fit(NoLogits(), DataLoader(images), DataLoader(images))


SCRIPT = """
import json, sys
import pytorch_lightning as pl
from datetime import timedelta
from pytorch_lightning.strategies import DDPStrategy
from lightning_adv.callbacks import BackdoorInspection
from lightning_adv.inspectors import MMBD, DeepInspect
from tests.callbacks.test_backdoor_inspection import Suspicious, cleanse, loader

strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60)) if sys.argv[1] != "1" else "auto"
chosen = BackdoorInspection({"nc": cleanse(), "di": DeepInspect(steps=20, hidden=16, draws=5),
                             "mm": MMBD(starts=2, steps=5)}, max_samples=40)
trainer = pl.Trainer(accelerator="cpu", devices=int(sys.argv[1]), strategy=strategy, callbacks=[chosen], logger=False,
                     enable_progress_bar=False, enable_model_summary=False, default_root_dir=sys.argv[2])
trainer.test(Suspicious(), loader(), verbose=False)
if trainer.is_global_zero:
    print(json.dumps(chosen.result.as_dict() | {"world": trainer.world_size}))
"""


def in_processes(folder: Path, ranks: int) -> dict:
    return json.loads(torchrun(SCRIPT, folder, ranks, ranks, folder).splitlines()[-1])


@pytest.mark.slow
def test_two_ranks_give_the_report_of_one(tmp_path):
    one, two = (in_processes(tmp_path, ranks) for ranks in (1, 2))
    assert (one["world"], two["world"]) == (1, 2)
    assert one["samples"] == two["samples"] == 40
    for name in ("nc", "di", "mm"):
        ours, theirs = one["inspectors"][name], two["inspectors"][name]
        assert theirs["flagged"] == ours["flagged"]
        assert [each["label"] for each in theirs["classes"]] == list(range(CLASSES))
        for each, other in zip(ours["classes"], theirs["classes"], strict=True):
            assert other["status"] == each["status"]
            assert other["norm"] == pytest.approx(each["norm"], rel=0.02) or math.isinf(each["norm"])


@pytest.fixture
def checkpoints(tmp_path):
    """Two networks of another seed each, as ``train.py`` stores them, and a third one of fewer classes."""
    paths = []
    for name, classes in (("one", CLASSES), ("two", CLASSES), ("other", 3)):
        options = {"width": 2, "hidden": 8}
        module = ClassifierModule(
            "mnist_cnn", num_classes=classes, in_channels=1, image_size=(12, 12), backbone_options=options
        )
        runner = trainer(folder=tmp_path, max_epochs=0)
        runner.strategy.connect(module)
        runner.save_checkpoint(tmp_path / f"{name}.ckpt")
        paths.append(str(tmp_path / f"{name}.ckpt"))
    return paths


def test_references_are_inspected_like_the_model_and_the_result_leads_with_them(tmp_path, checkpoints):
    inspectors = {"mm": MMBD(starts=2, steps=3), "nc": cleanse(steps=20)}
    result, scalars = in_test(BackdoorInspection(inspectors, references=checkpoints[:2]), tmp_path / "run")
    theirs = [
        {name: each(load_classifier(path), loader()) for name, each in inspectors.items()} for path in checkpoints[:2]
    ]
    expected = second_look({name: each(Suspicious(), loader()) for name, each in inspectors.items()}, theirs)
    assert result.second.index == pytest.approx(expected.index, rel=1e-3)
    assert result.second.inspectors == ("mm", "nc")
    assert scalars["test/second_look/p_value"] == pytest.approx(expected.p_value, rel=1e-2)
    assert result.summary().startswith("Beside 2 networks of your own")
    assert sorted(path.name for path in (tmp_path / "run").glob("*.safetensors")) == ["triggers.safetensors"]


def test_references_that_tell_nothing_are_refused_before_the_search(tmp_path, checkpoints):
    with pytest.raises(InputError, match="at least two references"):
        BackdoorInspection({"nc": cleanse()}, references=checkpoints[:1])
    with pytest.raises(InputError, match="has 3 classes, and the model has 7"):
        in_test(BackdoorInspection({"nc": cleanse()}, references=checkpoints[1:]), tmp_path)
