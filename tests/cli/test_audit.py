import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_model
from torch import nn

from experiments.open_models.hub import exported
from lightning_adv.cli import audit
from tests.cli.commands import UNLOGGED, last_callback, resolved, run

QUICK = (
    "--trainer.callbacks.attacks={pgd: {class_path: PGD, init_args: {eps: 0.1, steps: 2}}}",
    "--trainer.callbacks.max_samples=6",
    "--trainer.callbacks.inspectors={nc: {class_path: NeuralCleanse, init_args: {steps: 2, images_per_step: 8, "
    "batch_size: 8, allow_missing_classes: true}}}",
    UNLOGGED,
)


class Runs:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("mark",)


def test_a_checkpoint_gets_three_answers_on_one_page(trained):
    outcome = run([trained / "checkpoints/last.ckpt", *QUICK], audit)
    assert outcome.status == 0, outcome.err
    (page,) = Path("runs/audit").glob("*/*/report/index.html")
    text = page.read_text()
    for question in ("Does the file hold code?", "Does it hide a backdoor?", "How robust is it?"):
        assert text.index(question) < text.index("<section"), "at the top"
    assert "<strong>No.</strong>" in text
    results = json.loads((page.parent / "results.json").read_text())
    assert [each["kind"] for each in results["sections"]] == ["FileResult", "InspectionResult", "RobustnessResult"]
    assert len(results["sections"][0]["data"]["sha256"]) == 64


def test_a_file_with_code_gets_a_page_that_says_which_and_a_status_of_its_own():
    Path("evil.pth").write_bytes(pickle.dumps({"w": OrderedDict(), "<script>": Runs()}))
    outcome = run(["evil.pth", "--data=MNISTSubset", "--run=here"], audit)
    assert outcome.status == 3
    assert outcome.err.startswith("error: evil.pth is a pickle")
    assert outcome.err.count("\n") == 1
    text = Path("here/report/index.html").read_text()
    assert text.count("Not asked.") == 2
    assert text.index("<td>code") < text.index("<td>rebuilds values"), "what runs comes first"
    assert f"{os.mkdir.__module__}.mkdir" in text
    assert not Path("mark").exists()


def test_a_folder_that_holds_a_network_is_audited_file_by_file():
    net = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    prepared = {"input_size": [1, 28, 28], "mean": [0.1], "std": [0.3]}
    settings = {"architecture": "test_resnet", "num_classes": 10, "pretrained_cfg": prepared}
    Path("hub").mkdir()
    Path("hub/config.json").write_text(json.dumps(settings))
    save_model(net, "hub/model.safetensors")
    torch.save({"unused": torch.zeros(2)}, "hub/more.pt")
    outcome = run(["hub", "--data=MNISTSubset", "--run=here", *QUICK], audit)
    assert outcome.status == 0, outcome.err
    text = Path("here/report/index.html").read_text()
    assert text.count("Does the file hold code?") == 2
    Path("hub/more.pt").write_bytes(pickle.dumps(Runs()))
    outcome = run(["hub", "--data=MNISTSubset", "--run=again"], audit)
    assert outcome.status == 3
    assert "error: hub/more.pt is a pickle" in outcome.err
    assert not Path("mark").exists()


@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
def test_a_file_that_gives_no_gradients_is_attacked_by_its_scores_alone():
    pytest.importorskip("onnxruntime")
    exported(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)), Path("net.onnx"), image=(1, 28, 28))
    square = "--trainer.callbacks.attacks={square: {class_path: Square, init_args: {eps: 0.1, queries: 2}}}"
    outcome = run(["net.onnx", "--data=MNISTSubset", "--run=here", square, QUICK[1], UNLOGGED], audit)
    assert outcome.status == 0, outcome.err
    text = Path("here/report/index.html").read_text()
    assert "net.onnx is an ONNX file" in text
    assert "searches for a trigger need gradients" in text
    results = json.loads(Path("here/report/results.json").read_text())
    assert [each["kind"] for each in results["sections"]] == ["FileResult", "RobustnessResult"]
    assert results["sections"][0]["data"]["entries"]["weight"].startswith("tensor of ")


def test_a_stored_class_that_no_file_may_name_is_reported_like_code(trained):
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    config = yaml.safe_load(content["lightning_adv_config"])
    config["trainer"]["callbacks"] = [{"class_path": "subprocess.Popen"}]
    torch.save({**content, "lightning_adv_config": yaml.safe_dump(config)}, "odd.ckpt")
    outcome = run(["odd.ckpt", "--run=here"], audit)
    assert outcome.status == 3
    assert "subprocess.Popen" in outcome.err


def test_the_budget_and_every_override_reach_the_evaluations(trained):
    args = [trained / "checkpoints/last.ckpt", "--budget", "3", "--trainer.callbacks.attacks.autoattack.eps=0.1"]
    config = resolved(args, audit)
    assert last_callback(config, "TimeBudget")["minutes"] == 3
    assert last_callback(config, "AttackEvaluation")["attacks"]["autoattack"]["init_args"]["eps"] == 0.1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "needs a file first"),
        (["missing.pth"], "missing.pth is not there"),
        (["."], "is a folder without a file of weights"),
        (["--data=MNIST"], "needs a file first"),
    ],
)
def test_a_mistake_is_one_line(args, said):
    outcome = run(args, audit)
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
