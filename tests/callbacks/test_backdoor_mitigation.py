"""A checkpoint with a backdoor goes in, a cleaned one and a table come out."""

import json

import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.backdoors import Patch
from lightning_adv.callbacks import BackdoorEvaluation, BackdoorMitigation, Report
from lightning_adv.data import MNISTSubset, PoisonedDataModule
from lightning_adv.errors import InputError
from lightning_adv.mitigations import CLP, FinePruning, FineTuning, Retuning
from lightning_adv.modules import ClassifierModule
from lightning_adv.reports.storage import read_results
from tests.callbacks.strangers import trainer
from tests.mitigations.problems import DIGIT, PATCH, badnets, digits
from tests.processes import torchrun

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def data(**changes):
    return PoisonedDataModule(MNISTSubset(**changes), PATCH, DIGIT, 0.15)


def module():
    return ClassifierModule(badnets(), num_classes=10)


def repaired(folder, *callbacks, datamodule=None, **options):
    """The scalars of a test with these callbacks."""
    runner = trainer(*callbacks, folder=folder)
    (scalars,) = runner.test(module(), datamodule=datamodule or data(), verbose=False, **options)
    return scalars


def test_attack_and_accuracy_before_and_after_are_those_of_evaluations_around_it(tmp_path):
    around = [BackdoorEvaluation(name=name) for name in ("first", "then")]
    scalars = repaired(tmp_path, around[0], BackdoorMitigation(FinePruning(lr=0.05)), around[1])
    for key in ("attack_success_rate", "clean_accuracy"):
        assert scalars[f"test/mitigation/{key}_before"] == scalars[f"test/first/{key}"]
        assert scalars[f"test/mitigation/{key}_after"] == scalars[f"test/then/{key}"]
    assert scalars["test/first/attack_success_rate"] > 0.95
    assert scalars["test/then/attack_success_rate"] < 0.1
    assert scalars["test/mitigation/pruned_channels"] > 0


def test_the_cleaned_checkpoint_is_the_given_one_with_new_weights(tmp_path):
    runner = trainer(folder=tmp_path / "training", max_epochs=0)
    runner.fit(module(), datamodule=data())
    runner.save_checkpoint(tmp_path / "given.ckpt")
    callback = BackdoorMitigation(FinePruning(epochs=1))
    repaired(tmp_path, callback, ckpt_path=tmp_path / "given.ckpt", weights_only=True)
    given, cleaned = (
        torch.load(path, weights_only=True) for path in (tmp_path / "given.ckpt", tmp_path / "checkpoints/cleaned.ckpt")
    )
    assert given.keys() == cleaned.keys()
    assert given["state_dict"].keys() == cleaned["state_dict"].keys()
    (pruning,) = callback.result.report.repair.prunings
    pruned, name = list(pruning.pruned), pruning.rows[0]
    assert given["state_dict"][name][pruned].any()
    assert not cleaned["state_dict"][name][pruned].any()
    (again,) = trainer(BackdoorEvaluation(), folder=tmp_path).test(
        module(), datamodule=data(), ckpt_path=tmp_path / "checkpoints/cleaned.ckpt", weights_only=True, verbose=False
    )
    assert again["test/backdoor/clean_accuracy"] == pytest.approx(callback.result.scalars()["clean_accuracy_after"])


def test_a_defender_without_the_trigger_gets_weights_and_accuracy(tmp_path):
    callback = BackdoorMitigation(FinePruning(epochs=1), clean_samples=200, max_samples=100)
    scalars = repaired(tmp_path, callback, datamodule=MNISTSubset())
    assert {key for key in scalars if "mitigation" in key} == {
        "test/mitigation/clean_accuracy_before",
        "test/mitigation/clean_accuracy_after",
        "test/mitigation/pruned_channels",
    }
    assert callback.result.samples == 100
    assert callback.result.report.tuned_on + callback.result.report.held_out == 200
    assert load_file(tmp_path / "checkpoints" / "cleaned.safetensors").keys() == module().state_dict().keys()


def test_the_report_has_the_table(tmp_path):
    repaired(tmp_path, BackdoorMitigation(FinePruning(epochs=1)), Report())
    (section,) = read_results(tmp_path / "report" / "results.json")["sections"]
    assert section["data"]["led"][1] <= section["data"]["led"][0]
    assert section["data"]["source_samples"] == 900
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Before and after the mitigation" in page


def test_retuning_is_told_and_leaves_the_mended_model_as_it_was(tmp_path):
    models = []
    for retune in (None, Retuning(images=200, epochs=1)):
        callback = BackdoorMitigation(FineTuning(epochs=1), clean_samples=250, max_samples=200, retune=retune)
        models.append(module())
        (scalars,) = trainer(callback, folder=tmp_path).test(models[-1], datamodule=data(), verbose=False)
        assert ("test/mitigation/attack_success_rate_retuned" in scalars) == (retune is not None)
    assert all(torch.equal(*pair) for pair in zip(*(each.state_dict().values() for each in models), strict=True))
    assert len(callback.result.led) == len(callback.result.correct) == 3
    table, rates = callback.result.tables()
    assert table.columns[-2:] == ["Retuned", "95% retuned"]
    chosen, right = callback.result.report.repair.rates[-1]
    assert rates.rows == [[f"{chosen:g}", right / callback.result.report.held_out, "x"]]
    assert callback.result.as_dict()["lr"] == chosen
    assert f"at a chosen rate of {chosen:g}" in callback.result.summary()
    assert "fine-tuned again" in callback.result.summary().lower()


def test_the_oracle_has_a_column_of_its_own_and_decides_nothing(tmp_path):
    callback = BackdoorMitigation(CLP(), clean_samples=250, max_samples=200)
    scalars = repaired(tmp_path, callback)
    result = callback.result
    assert len({each.threshold for each in result.thresholds}) == len(result.thresholds) > 1
    (chosen,) = (each for each in result.thresholds if each.threshold == result.report.repair.threshold)
    assert (chosen.correct, chosen.led) == (result.correct[1], result.led[1])  # nothing was fine-tuned
    assert chosen.led / result.source_samples == scalars["test/mitigation/attack_success_rate_after"]
    assert result.oracles_choice().led == min(
        each.led for each in result.thresholds if each.correct >= result.correct[0] - 20
    )
    _, table, layers = result.tables()
    assert [row[0] for row in layers.rows] == [each.layer for each in result.report.repair.prunings]
    assert [row[table.columns.index("Oracle")] for row in table.rows].count("x") == 1
    assert [row[table.columns.index("Chosen")] for row in table.rows].count("x") == 1


class TooLate(Callback):
    """Fails the test that gets as far as a batch."""

    def on_test_batch_start(self, *_: object) -> None:
        pytest.fail("refused only after the test began")


def test_what_cannot_be_meant_is_refused(tmp_path):
    class Nothing(LightningDataModule):
        def test_dataloader(self):
            return DataLoader(TensorDataset(*digits()["test"]), batch_size=100)

    with pytest.raises(InputError, match="not while training"):
        trainer(BackdoorMitigation(FinePruning()), folder=tmp_path, max_epochs=1).fit(module(), datamodule=data())
    with pytest.raises(InputError, match="needs clean images that are not measured"):
        repaired(tmp_path, TooLate(), BackdoorMitigation(FinePruning(epochs=1)), datamodule=Nothing())
    without = BackdoorMitigation(FinePruning(epochs=1), trigger=Patch())
    with pytest.raises(InputError, match="has no target"):
        repaired(tmp_path, TooLate(), without, datamodule=MNISTSubset())
    blind = BackdoorMitigation(FinePruning(), retune=Retuning())
    with pytest.raises(InputError, match="cannot retune without trigger and target"):
        repaired(tmp_path, TooLate(), blind, datamodule=MNISTSubset())
    with pytest.raises(InputError, match="target"):
        repaired(tmp_path, TooLate(), BackdoorMitigation(FinePruning(), trigger=Patch(), target=10))
    with pytest.raises(InputError, match="clean_samples of BackdoorMitigation must be at least 2"):
        BackdoorMitigation(FinePruning(), clean_samples=1)


SCRIPT = """
import json, sys
from datetime import timedelta
from pytorch_lightning.strategies import DDPStrategy
import pytorch_lightning as pl
from lightning_adv.callbacks import BackdoorMitigation
from lightning_adv.mitigations import FinePruning, Retuning
from lightning_adv.modules import ClassifierModule
from tests.callbacks.test_backdoor_mitigation import data
from tests.mitigations.problems import network

strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60)) if sys.argv[1] != "1" else "auto"
chosen = BackdoorMitigation(FinePruning(epochs=2), clean_samples=300, max_samples=301, retune=Retuning(200, epochs=1))
trainer = pl.Trainer(accelerator="cpu", devices=int(sys.argv[1]), strategy=strategy, callbacks=[chosen], logger=False,
                     enable_progress_bar=False, enable_model_summary=False, default_root_dir=sys.argv[2])
pl.seed_everything(0)
trainer.test(ClassifierModule(network(), num_classes=10), datamodule=data(), verbose=False)
if trainer.is_global_zero:
    print(json.dumps(chosen.result.as_dict()))
"""


@pytest.mark.slow
def test_two_ranks_repair_and_count_as_one(tmp_path):
    results = []
    for ranks in (1, 2):
        printed = torchrun(SCRIPT, tmp_path, ranks, ranks, tmp_path / str(ranks))
        results.append(json.loads([row for row in printed.splitlines() if row.startswith("{")][-1]))
    one, two = results
    assert one["samples"] == 301
    assert two["pruned"] == one["pruned"]
    for key in ("samples", "source_samples", "tuned_on", "held_out"):
        assert two[key] == one[key]
    for key in ("correct", "led"):
        assert two[key] == pytest.approx(one[key], abs=2)
    weights = [load_file(tmp_path / str(ranks) / "checkpoints" / "cleaned.safetensors") for ranks in (1, 2)]
    for name, weight in weights[0].items():
        assert torch.allclose(weights[1][name], weight, atol=1e-4)
