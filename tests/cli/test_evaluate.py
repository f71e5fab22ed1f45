import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import save_file

from lightning_adv.cli import evaluate
from lightning_adv.errors import InputError
from lightning_adv.models import create_model
from tests.cli.commands import CONFIGS, DEMO, QUICK, UNLOGGED, Built, Outcome, last_callback, resolved, run

STANDARD = CONFIGS / "evaluate/standard.yaml"
FEW = ("--trainer.callbacks.max_samples=6", "--trainer.callbacks.eps_sweep=[]", UNLOGGED)
WEAK = ("--trainer.callbacks.attacks={fgsm: {class_path: FGSM, init_args: {eps: 8/255}}}",)
"""Standard's strong attacks cost time and are not what is tested here."""


def evaluated(args: list[str]) -> tuple[dict, Path]:
    """The results of ``evaluate.py`` and the folder they are in."""
    outcome: Outcome = run(args, evaluate)
    assert outcome.status == 0, outcome.err
    (page,) = Path("runs/evaluate").glob("*/*/report/index.html")
    assert f"report: {page}\n" in outcome.out
    return json.loads((page.parent / "results.json").read_text()), page.parent.parent


def attacks_of(results: dict) -> list[str]:
    (section,) = results["sections"]
    return [row["name"] for row in section["data"]["attacks"]]


@pytest.fixture
def checkpoint(trained) -> str:
    return f"--ckpt_path={trained / 'checkpoints/last.ckpt'}"


@pytest.fixture
def weights(trained) -> dict[str, torch.Tensor]:
    """The weights of the trained backbone alone."""
    state = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}


def test_a_checkpoint_is_attacked_as_it_was_in_training_on_its_own_data(checkpoint, trained):
    results, folder = evaluated([checkpoint])
    assert attacks_of(results) == ["fgsm", "pgd20"]
    assert results["sections"][0]["data"]["samples"] == 6
    assert results["sections"][0]["stage"] == "test"
    assert folder.parent.name == trained.name
    told, weights = results["run"], trained / "checkpoints/last.ckpt"
    assert (told["model"], told["data"], told["cuts"]) == ("mnist_cnn", "MNISTSubset", [])
    assert told["weights"] == {"last.ckpt": hashlib.sha256(weights.read_bytes()).hexdigest()}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["init_args"]["backbone_options"] == {"width": 4, "hidden": 16}
    assert config["ckpt_path"] == checkpoint.partition("=")[2]


def test_a_network_that_comes_with_the_program_is_evaluated_by_its_name():
    attacks = "--trainer.callbacks.attacks={fgsm: {class_path: FGSM, init_args: {eps: 0.3}}}"
    few = ("--data=MNISTSubset", "--data.max_test_samples=100", "--trainer.callbacks.max_samples=20", UNLOGGED)
    outcome = run(["--model.weights=zoo/mnist_standard", *few, attacks, "--run=here"], evaluate)
    assert outcome.status == 0, outcome.err
    assert "note: model: zoo/mnist_standard, 166,406 parameters" in outcome.err
    results = json.loads(Path("here/report/results.json").read_text())
    assert results["run"]["model"] == "zoo/mnist_standard"
    assert results["sections"][0]["scalars"]["clean_accuracy"] > 0.9


def test_a_configuration_replaces_the_attacks_of_training(checkpoint):
    results, _ = evaluated([checkpoint, "--config", str(STANDARD), *FEW, *WEAK])
    assert attacks_of(results) == ["fgsm"]


def test_the_standard_suite_can_be_overridden_like_any_configuration(checkpoint):
    args = [checkpoint, "--config", str(STANDARD), *FEW, "--trainer.callbacks.attacks.pgd20.steps=50"]
    config = resolved([*args, "--trainer.callbacks.title=Mine"], evaluate)
    assert last_callback(config, "AttackEvaluation")["attacks"]["pgd20"]["init_args"]["steps"] == 50
    assert last_callback(config, "AttackEvaluation")["max_samples"] == 6
    assert last_callback(config, "Report")["title"] == "Mine"


@pytest.mark.parametrize("stored", ["the standard suite", "those of training"])
def test_a_users_list_of_evaluations_takes_nothing_from_the_default(stored, checkpoint, trained):
    if stored == "the standard suite":
        content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
        config = yaml.safe_load(content["lightning_adv_config"])
        config["trainer"]["callbacks"] = None
        torch.save({**content, "lightning_adv_config": yaml.safe_dump(config)}, "plain.ckpt")
        checkpoint = "--ckpt_path=plain.ckpt"
    attacks = {"fgsm": {"class_path": "FGSM", "init_args": {"eps": 0.1}}}
    evaluation = {"class_path": "AttackEvaluation", "init_args": {"attacks": attacks}}
    Path("mine.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [{"class_path": "Report"}, evaluation]}}))
    config = resolved([checkpoint, "--config", "mine.yaml"], evaluate)
    arguments = last_callback(config, "AttackEvaluation")
    assert arguments["eps_sweep"] == []
    assert arguments["max_samples"] is None
    assert list(arguments["attacks"]) == ["fgsm"]
    assert last_callback(config, "Report")["title"] is None


def test_a_fragment_adds_to_the_attacks_of_training(checkpoint):
    config = resolved([checkpoint, "--config", str(CONFIGS / "callbacks/attack_evaluation.yaml")], evaluate)
    callbacks = config["trainer"]["callbacks"]
    found = [(each["class_path"].rpartition(".")[2], each["init_args"].get("name")) for each in callbacks]
    assert found == [("Report", None), ("AttackEvaluation", None), ("AttackEvaluation", "standard_attacks")]


def test_a_checkpoint_without_evaluations_gets_the_standard_suite(trained):
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    config = yaml.safe_load(content["lightning_adv_config"])
    config["trainer"]["callbacks"] = {"class_path": "pytorch_lightning.callbacks.ModelSummary"}
    torch.save({**content, "lightning_adv_config": yaml.safe_dump(config)}, "plain.ckpt")
    attacks = last_callback(resolved(["--ckpt_path=plain.ckpt"], evaluate), "AttackEvaluation")["attacks"]
    *_, evaluation = yaml.safe_load(STANDARD.read_text())["trainer"]["callbacks"]
    assert list(attacks) == list(evaluation["init_args"]["attacks"])


def test_what_belongs_to_training_is_left_out(checkpoint):
    model = resolved([checkpoint], evaluate)["model"]["init_args"]
    assert model["optimizer"] is None
    assert model["lr_scheduler"] is None


def test_other_data_of_the_same_kind_take_the_place_of_those_of_training(checkpoint, weights):
    size = (20, 1, 28, 28)
    save_file({"images": torch.rand(size), "labels": torch.arange(20) % 10}, "own.safetensors")
    results, _ = evaluated([checkpoint, "--data=ArrayData", "--data.root=.", "--data.train=own.safetensors"])
    assert results["sections"][0]["data"]["samples"] == 4
    assert results["run"]["data"] == "ArrayData own.safetensors"


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_bare_weights_are_evaluated_with_a_backbone_and_data_that_are_named(suffix, weights, checkpoint):
    save_file(weights, "bare.safetensors") if suffix == "safetensors" else torch.save(weights, "bare.pt")
    named = ["--model.backbone=mnist_cnn", "--data=MNISTSubset", "--data.max_test_samples=12"]
    named += ["--model.backbone_options={width: 4, hidden: 16}"]
    bare, folder = evaluated([f"--ckpt_path=bare.{suffix}", *named, *FEW, *WEAK])
    assert folder.parent.name == "bare"
    assert list(bare["run"]["weights"]) == [f"bare.{suffix}"]
    _, of_checkpoint = run([checkpoint, "--run=with_checkpoint", *FEW, *WEAK], evaluate), Path("with_checkpoint")
    expected = json.loads((of_checkpoint / "report/results.json").read_text())
    assert bare["sections"][0]["data"]["clean_correct"] == expected["sections"][0]["data"]["clean_correct"]


def test_bare_weights_of_another_network_are_refused_in_one_line(weights):
    save_file(weights, "bare.safetensors")
    outcome = run(["--ckpt_path=bare.safetensors", "--model.backbone=lenet", "--data=MNISTSubset"], evaluate)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert "bare.safetensors does not fit the model" in outcome.err
    assert outcome.err.count("\n") == 1


def test_best_checkpoints_go_into_the_folder_of_the_run():
    best = str(CONFIGS / "callbacks/best_checkpoint.yaml")
    trainer = Built(["fit", "--config", DEMO, "--config", best, *QUICK, "--run=here"]).trainer
    (callback,) = (each for each in trainer.callbacks if isinstance(each, ModelCheckpoint))
    assert callback.dirpath == "here/checkpoints"


@pytest.mark.filterwarnings("ignore:.*has no train/", "ignore:.*lacks 1 of the 4 pictures")
@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
def test_a_model_of_a_thousand_classes_is_evaluated_on_the_listed_pictures_of_two():
    classes = {"n01440764": "tench", "n01514668": "cock"}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 20), dtype=np.uint8)
    for folder in classes:
        Path("pictures", folder).mkdir(parents=True)
        for number, grey in enumerate(pixels):
            Image.fromarray(grey).save(f"pictures/{folder}/{number}.JPEG")
    Path("ids.txt").write_text("n01514668/2.JPEG\nn01440764/0.JPEG\nn01440764/9.JPEG\nn01514668/1.JPEG\n")
    options = {"width": 2, "hidden": 8}
    network = create_model("mnist_cnn", num_classes=1000, in_channels=3, image_size=(8, 8), backbone_options=options)
    save_file(network.net.state_dict(), "thousand.safetensors")
    model = ["--model.backbone=mnist_cnn", f"--model.backbone_options={json.dumps(options)}"]
    data = ["--data=ImageFolder", "--data.root=pictures", "--data.class_list=imagenet", "--data.only=ids.txt"]
    results, _ = evaluated(["--ckpt_path=thousand.safetensors", *model, *data, "--data.image_size=8", *FEW, *WEAK])
    found = results["sections"][0]["data"]
    assert found["samples"] == 3
    assert len(found["class_names"]) == 1000
    assert {found["class_names"][k]: n for k, n in enumerate(found["per_class_samples"]) if n} == {
        "tench": 1,
        "cock": 2,
    }
    (by_class,) = (each for each in results["sections"][0]["tables"] if each["title"] == "Accuracy by class")
    assert [row[:2] for row in by_class["rows"]] == [["tench", 1], ["cock", 2]]
    assert by_class["note"] == "2 of 1,000 classes have images."


@pytest.mark.filterwarnings("ignore:the data differ from what mobilenetv3_small_050 was trained with")
def test_data_that_match_the_model_are_prepared_as_its_network_tells():
    for split in ("train", "val"):
        for kind in ("cat", "dog"):
            Path("pictures", split, kind).mkdir(parents=True)
    data = {"class_path": "ImageFolder", "init_args": {"root": "pictures", "match": "model", "image_size": 32}}
    around = {"class_path": "PurifiedDataModule", "init_args": {"data": data, "purifier": {"class_path": "JPEG"}}}
    Path("data.yaml").write_text(yaml.safe_dump({"data": around}))
    built = Built(["fit", "--config=data.yaml", "--model=ClassifierModule", "--model.backbone=mobilenetv3_small_050"])
    assert str(built.datamodule.preparation) == "32 x 32 pixels, bicubic, center crop of 0.875"
    assert built.config.fit.data.init_args.data.init_args.match == "model"
    with pytest.raises(InputError, match=r"data\.match=model needs a network that --model.backbone names"):
        Built(["fit", "--config=data.yaml", "--model=ClassifierModule", "--model.backbone=torch.nn.Identity"])
