"""Each method against each model is measured once and kept, and stands in its place of a table."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from experiments.backdoor_bench.__main__ import found_in
from experiments.backdoor_bench.measure import FAMILIES, UNTOLD, Bench
from experiments.backdoor_bench.setup import ATTACKS, NONE, SETTINGS, Attack, Attacker
from experiments.backdoor_bench.tables import tables
from experiments.networks import net_for
from experiments.records import read_records
from lightning_adv.backdoors import Patch
from lightning_adv.data import MNIST, MNISTSubset, PoisonedDataModule
from lightning_adv.detectors import IBDPSC, ScaleUp
from lightning_adv.errors import InputError
from lightning_adv.inspectors import MMBD
from lightning_adv.mitigations import FineTuning
from lightning_adv.objectives import InputAware
from lightning_adv.scans import SpectralSignatures

FEW = {"max_train_samples": 600, "max_test_samples": 60}


@pytest.fixture(scope="module")
def setting():
    inspectors = {"MM-BD": lambda seed: MMBD(starts=2, steps=2, seed=seed)}
    return replace(
        SETTINGS["MNIST"],
        images=MNISTSubset,
        epochs=4,
        batch_size=32,
        defended=60,
        judged=20,
        inspectors=inspectors,
        arguments=FEW,
    )


@pytest.fixture(scope="module")
def run(setting, tmp_path_factory):
    """A folder with every family's first method against a model with a backdoor and one without."""
    with pytest.MonkeyPatch.context() as patch:
        place = "experiments.backdoor_bench.measure"
        patch.setattr(f"{place}.SCANS", {"spectral signatures": lambda seed: SpectralSignatures()})
        patch.setattr(f"{place}.DETECTORS", {"SCALE-UP": lambda seed: ScaleUp()})
        patch.setattr(f"{place}.MITIGATIONS", {"fine-tuning": lambda seed: FineTuning(epochs=1, seed=seed)})
        patch.setitem(ATTACKS, "BadNets", Attack(lambda has: {"trigger": Patch(size=4), "poisoned": 0.2}))
        folder = tmp_path_factory.mktemp("run")
        for attack in (NONE, "BadNets"):
            bench = Bench(attack, 0, setting, "unused", folder / "MNIST")
            for family in FAMILIES:
                list(bench.cells(family))
        yield folder


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of the folder, to write into."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture(scope="module")
def found(run):
    return found_in("MNIST", read_records(run, "*/*/*/*.json"))


def test_a_backdoor_is_learnt_and_a_clean_model_has_none(found):
    (poisoned,), (clean,) = (found[attack, "model"]["model"] for attack in ("BadNets", NONE))
    assert poisoned["attack_success"] > 0.8
    assert poisoned["poisoned"] == 120
    assert clean["attack_success"] is None
    (untold,) = found["BadNets", "model"][UNTOLD]
    assert untold["attack_success"] < 0.3, "the patch alone looks like no digit"
    assert min(poisoned["clean_accuracy"], clean["clean_accuracy"]) > 0.7


def test_a_scan_is_judged_by_the_plan(found):
    (scan,), (clean,) = (found[attack, "scans"]["spectral signatures"] for attack in ("BadNets", NONE))
    assert 0 <= scan["recall"] <= 1
    assert clean["recall"] is None
    assert 0 <= clean["false_alarms"] <= 1


def test_every_method_has_its_place_in_a_table(found):
    made = {table.title: table for table in tables("MNIST", found)}
    attacks = made["MNIST: attacks"]
    assert [row[0] for row in attacks.rows] == [NONE, "BadNets"]
    of_clean = attacks.columns.index("on the clean model")
    assert attacks.rows[0][of_clean] == ""
    assert float(attacks.rows[1][of_clean]) < 30
    detected = made["MNIST: detectors, detected at 5 % false alarms"]
    assert [row[0] for row in detected.rows] == ["BadNets"], "of a clean model there is nothing to tell apart"
    mended = made["MNIST: mitigations, attack success / clean accuracy"].rows
    assert mended[0][1].startswith("none / ")
    retuned = made["MNIST: mitigations, attack success after retuning"]
    assert retuned.columns[1:] == ["never poisoned", "fine-tuning"]
    assert retuned.rows[0][1] == ""
    assert float(retuned.rows[1][1]) >= 0
    assert 0 < float(made["MNIST: detectors, area under the ROC curve"].rows[0][1]) <= 1
    assert {row[1] for row in made["MNIST: seconds"].rows} == {
        "spectral signatures",
        "MM-BD",
        "SCALE-UP",
        "fine-tuning",
    }


def test_what_was_measured_is_not_measured_again(own_run, setting):
    bench = Bench("BadNets", 0, setting, "nowhere", own_run / "MNIST")
    path = bench.kept.path("model model", "json")
    record = json.loads(path.read_text())
    kept = record | {"made": record["made"] | {"clean_accuracy": 0.123}}
    path.write_text(json.dumps(kept))
    assert dict(bench.cells("model"))["model"]["clean_accuracy"] == 0.123
    assert "subject" not in vars(bench), "and nothing is trained"
    path.write_text(json.dumps(record))


def test_only_the_methods_that_are_asked_for_are_measured(own_run, setting):
    bench = Bench(NONE, 0, setting, "unused", own_run / "MNIST")
    assert not list(bench.cells("inspectors", ["another"]))
    assert [name for name, _ in bench.cells("inspectors", ["MM-BD", "another"])] == ["MM-BD"]


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.poisoning])
def test_each_attack_can_be_planned(name, monkeypatch):
    monkeypatch.setattr("experiments.backdoor_bench.setup.EPOCHS", 20)
    images = MNISTSubset(max_train_samples=800)
    images.setup()
    own = net_for(images, "mnist_cnn", {})
    arguments = ATTACKS[name].poisoning(Attacker(SETTINGS["MNIST"], images, lambda: own))
    plan = PoisonedDataModule(images, target=0, seed=0, **arguments).plan
    assert len(plan.poisoned) > 0
    assert not torch.isin(plan.poisoned, plan.cover).any()


def test_an_attacker_has_a_network_of_another_seed_that_is_kept(own_run, setting):
    bench = Bench("BadNets", 0, setting, "unused", own_run / "MNIST")
    own, clean = bench._own(), Bench(NONE, 0, setting, "unused", own_run / "MNIST").subject.model
    assert len(list((own_run / "MNIST" / NONE / "1").glob("weights*"))) == 1
    assert not any(torch.equal(a, b) for a, b in zip(own.parameters(), clean.parameters(), strict=True) if a.dim() > 1)


def test_an_attacker_who_trains_leaves_the_data_clean_and_keeps_the_trigger(setting, tmp_path, monkeypatch):
    training = partial(InputAware, 0, mask_epochs=0, width=4, halvings=1)
    monkeypatch.setitem(ATTACKS, "Input-Aware", Attack(None, training=lambda setting: training()))
    first, again = (Bench("Input-Aware", 0, replace(setting, epochs=1), "unused", tmp_path) for _ in range(2))
    taught = first.subject
    assert len(taught.poisoned) == 0
    monkeypatch.setattr("experiments.backdoor_bench.models.teach", lambda *_: pytest.fail("trained again"))
    assert torch.equal(again.subject.triggered(), taught.triggered())
    assert not torch.equal(taught.triggered(), InputAware(0, width=4, halvings=1).trigger(taught.triggered()))
    figures = dict(again.cells("scans", ["spectral signatures"]))["spectral signatures"]
    assert figures["recall"] is None
    (table,) = (
        table for table in tables("MNIST", {("Input-Aware", "scans"): {"it": [figures]}}) if "recall" in table.title
    )
    assert table.rows[0][1].startswith("none / ")


def test_a_method_that_does_not_suit_the_network_is_said_and_ends_nothing(own_run, setting, monkeypatch):
    monkeypatch.setattr("experiments.backdoor_bench.measure.DETECTORS", {"IBD-PSC": lambda seed: IBDPSC()})
    plain = replace(setting, options={})
    ((name, figures),) = Bench("BadNets", 0, plain, "unused", own_run / "MNIST").cells("detectors")
    assert "BatchNorm" in figures["refused"]
    made = tables("MNIST", {("BadNets", "detectors"): {name: [figures]}})
    assert [["BadNets", "does not suit"]] in [table.rows for table in made]


def test_data_that_are_not_there_are_no_refusal_of_a_method(setting, tmp_path):
    without = replace(setting, images=MNIST, arguments={})
    bench = Bench(NONE, 0, without, str(tmp_path / "nowhere"), tmp_path / "run")
    for family in ("model", "mitigations"):
        with pytest.raises(InputError, match="does not exist"):
            list(bench.cells(family))
    assert not list((tmp_path / "run").rglob("*.json")), "nothing is kept of it"


def test_weights_of_another_setting_are_not_taken(own_run, setting):
    kept = set(Bench("BadNets", 0, setting, "unused", own_run / "MNIST").kept.folder.glob("weights*"))
    other = Bench("BadNets", 0, replace(setting, epochs=1), "unused", own_run / "MNIST")
    assert other.subject.model is not None
    assert len(set(other.kept.folder.glob("weights*")) - kept) == 1


def test_figures_of_an_earlier_form_of_an_attack_are_not_taken(own_run, setting, monkeypatch):
    monkeypatch.setitem(ATTACKS, "BadNets", replace(ATTACKS["BadNets"], form="another"))
    bench = Bench("BadNets", 0, setting, "unused", own_run / "MNIST")
    monkeypatch.setattr(bench, "_model", lambda _: {"clean_accuracy": 0.125})
    assert next(bench.cells("model"))[1]["clean_accuracy"] == 0.125


def test_settings_differ_in_words():
    assert len({each.in_words for each in SETTINGS.values()}) == len(SETTINGS)
    assert "lambda" not in "".join(each.in_words for each in SETTINGS.values())
