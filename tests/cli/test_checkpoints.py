"""Checkpoints of other projects and networks of one's own, through the command line."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn.parameter import is_lazy

from experiments.open_models.hub import exported, timm_folder
from lightning_adv.cli import evaluate
from lightning_adv.models import create_model
from tests.cli import own_net
from tests.cli.commands import DEMO, FEW_IMAGES, ROOT, SHORT, UNLOGGED, Built, run
from tests.cli.own_net import Net

OWN = "tests.cli.own_net.Net"
COMMANDS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.DOTALL)
OF_PICTURES = [command for command in COMMANDS if "ImageFolder" in command]
OF_DIGITS = [command for command in COMMANDS if "--data=MNISTSubset" in command]
DATA = ("--data=MNISTSubset", "--data.max_test_samples=12")
ONE_ATTACK = (
    UNLOGGED,
    "--trainer.callbacks.max_samples=6",
    "--trainer.callbacks.eps_sweep=[]",
    "--trainer.callbacks.attacks={fgsm: {class_path: FGSM, init_args: {eps: 8/255}}}",
)


def foreign(net: nn.Module, path: str, prefix: str, **more: object) -> str:
    """A checkpoint as another project's LightningModule leaves it; the arguments of ``evaluate.py``."""
    state = {f"{prefix}{name}": weight for name, weight in net.state_dict().items()}
    content = {"pytorch-lightning_version": "2.1.0", "epoch": 3, "global_step": 9, "state_dict": state, "loops": {}}
    torch.save({**content, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [], **more}, path)
    return f"--ckpt_path={path}"


@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
@pytest.mark.parametrize("prefix", ["net.", "model.", "backbone.", "model.net.", ""])
def test_another_projects_checkpoint_is_weights_for_the_backbone_that_is_named(prefix):
    torch.manual_seed(0)
    net = create_model("lenet", num_classes=10, in_channels=1, image_size=(28, 28)).net
    nonsense = {"backbone": "subprocess.Popen", "_class_path": "os.system", "mean": "evil"}
    checkpoint = foreign(net, "theirs.ckpt", prefix, hyper_parameters=nonsense)
    cli = Built(["test", checkpoint, "--config", DEMO, "--model.backbone=lenet", "--model.weights=theirs.ckpt"])
    assert cli.checkpoint is None
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(cli.model.backbone.net.eval()(x), net.eval()(x))


def test_another_projects_checkpoint_is_evaluated():
    checkpoint = foreign(Net(5), "theirs.ckpt", "model.", hyper_parameters={"backbone": "subprocess.Popen"})
    outcome = run([checkpoint, *DATA, *ONE_ATTACK, f"--model.backbone={OWN}", "--model.backbone.width=5"], evaluate)
    assert outcome.status == 0, outcome.err
    assert "fgsm" in outcome.out


@pytest.mark.parametrize("named", ["=", ".class_path=", " "])
def test_a_network_of_ones_own_is_named_by_its_class(named):
    torch.save(Net(5).state_dict(), "own.pth")
    name = ["--model.backbone", OWN] if named == " " else [f"--model.backbone{named}{OWN}"]
    cli = Built(["test", "--config", DEMO, *name, "--model.backbone.init_args.width=5", "--model.weights=own.pth"])
    assert isinstance(cli.model.backbone, Net)
    assert torch.equal(cli.model.backbone.head.weight, torch.load("own.pth")["head.weight"])


def test_a_network_of_ones_own_is_made_by_a_function():
    cli = Built(["test", "--config", DEMO, "--model.backbone=tests.cli.own_net.make_net", "--model.backbone.width=6"])
    assert cli.model.backbone.head.in_features == 24


def test_a_network_that_waits_for_its_first_images_is_built_as_any_other():
    cli = Built(["test", "--config", DEMO, "--model.backbone=tests.cli.own_net.lazy_net"])
    assert any(is_lazy(weight) for weight in cli.model.parameters())


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--model.backbone=tests.cli.own_net.Nett"], "no attribute 'Nett'"),
        (["--model.backbone=tests.cli.own_net.nn"], "not correspond to a subclass of Module"),
        (["--model.backbone=nowhere_at_all.Net"], "PYTHONPATH=FOLDER"),
        (["--model.backbone=resnet18.of_nobody"], "no weights called 'of_nobody'"),
        ([f"--model.backbone={OWN}", "--model.backbone.widht=5"], "did you mean width?"),
    ],
)
def test_what_is_wrong_with_a_network_of_ones_own_is_said_in_a_line(typed, told):
    outcome = run(["fit", "--config", DEMO, *typed])
    assert outcome.status == 2
    assert told in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err


def test_a_checkpoint_names_a_network_of_ones_own_only_where_that_is_trusted():
    outcome = run(["fit", "--config", DEMO, *FEW_IMAGES, *SHORT, "--run=mine", f"--model.backbone={OWN}"])
    assert outcome.status == 0, outcome.err
    checkpoint = ["--ckpt_path=mine/checkpoints/last.ckpt", *ONE_ATTACK]
    refused = run(checkpoint, evaluate)
    assert (refused.status, "add --trust tests" in refused.err) == (2, True)
    trusted = run([*checkpoint, "--trust=tests"], evaluate)
    assert trusted.status == 0, trusted.err


def test_a_stored_name_of_a_network_is_never_taken_for_a_class():
    content = {"lightning_adv_config": f"model: {{class_path: ClassifierModule, init_args: {{backbone: {OWN}}}}}"}
    outcome = run([foreign(Net(), "sly.ckpt", "backbone.", **content), *DATA, *ONE_ATTACK], evaluate)
    assert (outcome.status, f"no backbone is called '{OWN}'" in outcome.err) == (2, True)


def test_a_folder_of_timm_is_evaluated_and_trained_on_without_its_name():
    net = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    timm_folder(Path("hub"), net, "test_resnet", mean=[0.1], std=[0.3], input_size=[1, 28, 28])
    outcome = run(["--ckpt_path=hub", *DATA, *ONE_ATTACK], evaluate)
    assert outcome.status == 0, outcome.err
    assert "as they are" not in outcome.err
    fit = ["fit", "--data=MNISTSubset", *FEW_IMAGES, "--model=ClassifierModule", "--model.weights=hub", "--run=mine"]
    outcome = run([*fit, "--trainer.max_epochs=1"])
    assert outcome.status == 0, outcome.err
    outcome = run(["--ckpt_path=mine/checkpoints/last.ckpt", *ONE_ATTACK], evaluate)
    assert outcome.status == 0, outcome.err


def test_a_folder_whose_classes_are_not_those_of_the_data_is_refused_in_a_line():
    net = timm.create_model("test_resnet", num_classes=7, in_chans=1)
    timm_folder(Path("hub"), net, "test_resnet")
    outcome = run(["--ckpt_path=hub", *DATA, *ONE_ATTACK], evaluate)
    assert (outcome.status, "hub has 7 classes, the data 10" in outcome.err) == (2, True)


def test_a_folder_that_numbers_the_classes_of_the_data_otherwise_is_refused_in_a_line():
    net = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    labels = [str(9 - digit) for digit in range(10)]
    timm_folder(Path("hub"), net, "test_resnet", mean=[0.1], std=[0.3], input_size=[1, 28, 28], label_names=labels)
    outcome = run(["--ckpt_path=hub", *DATA, *ONE_ATTACK], evaluate)
    assert (outcome.status, "class 0 is '9' there and '0' here" in outcome.err) == (2, True)


@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
def test_an_attack_by_gradients_on_an_onnx_file_is_refused_in_a_line():
    pytest.importorskip("onnxruntime")
    exported(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)), Path("net.onnx"), image=(1, 28, 28))
    refused = run(["--ckpt_path=net.onnx", *DATA, *ONE_ATTACK], evaluate)
    assert (refused.status, "attack it with Square" in refused.err.splitlines()[-1]) == (2, True)


def arguments(command: str) -> list[str]:
    """Of ``evaluate.py`` in a command of the document."""
    words = shlex.split(command.replace("\\\n", " "))
    return words[words.index("evaluate.py") + 1 :]


@pytest.mark.filterwarnings("ignore:.*has no train/", "ignore:.*does not say how its images were normalised")
def test_the_documents_network_of_a_thousand_classes_is_evaluated_on_the_pictures_of_two():
    (command,) = OF_PICTURES
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), "net.pth")
    for wnid in ("n01440764", "n01514668"):
        folder = Path("pictures/val", wnid)
        folder.mkdir(parents=True)
        Image.new("RGB", (240, 230), "red").save(folder / "a.png")
    outcome = run([*arguments(command), *ONE_ATTACK], evaluate)
    assert outcome.status == 0, outcome.err
    assert "Adversarial attacks (test)" in outcome.out
    assert "normalisation: mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]" in outcome.err


@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
@pytest.mark.parametrize("command", OF_DIGITS, ids=lambda command: re.search(r"--ckpt_path=(\S+)", command)[1])
def test_a_command_of_the_document_works(command, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    shutil.copy(own_net.__file__, tmp_path / "my_nets.py")
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(Net(8).state_dict(), "net.pth")
    exported(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)), Path("net.onnx"), image=(1, 28, 28))
    args = arguments(command)
    weak = [] if any("attacks=" in arg for arg in args) else ONE_ATTACK[3:]
    outcome = run([*args, *DATA[1:], *ONE_ATTACK[:3], *weak], evaluate)
    assert outcome.status == 0, outcome.err
    assert "Adversarial attacks (test)" in outcome.out
    assert "Net gets images in [0, 1] as they are" in outcome.err
    (results,) = Path("runs/evaluate").glob("*/*/report/results.json")
    assert ("my_nets.Net" in command) == (json.loads(results.read_text())["run"]["model"] == "my_nets.Net")


def test_a_run_from_a_file_of_weights_is_evaluated_without_that_file():
    net = create_model("mnist_cnn", num_classes=10, in_channels=1, image_size=(28, 28))
    torch.save(net.state_dict(), "start.pth")
    fit = ["fit", "--data=MNISTSubset", *FEW_IMAGES, "--model=ClassifierModule", "--model.weights=start.pth"]
    outcome = run([*fit, "--run=mine", "--trainer.max_epochs=1"])
    assert outcome.status == 0, outcome.err
    Path("start.pth").unlink()
    outcome = run(["--ckpt_path=mine/checkpoints/last.ckpt", *ONE_ATTACK], evaluate)
    assert outcome.status == 0, outcome.err


def test_of_live_and_averaged_weights_the_ones_that_are_asked_for_are_evaluated():
    live, averaged = Net(5).state_dict(), Net(5).state_dict()
    for state, surely in ((live, 1000), (averaged, 100)):
        state["head.bias"][3] += surely  # says so of every image, wrongly of most: that is their loss
    torch.save({"model_state_dict": live, "ema": averaged}, "both.pth")
    command = ["--ckpt_path=both.pth", *DATA, *ONE_ATTACK, f"--model.backbone={OWN}", "--model.backbone.width=5"]
    asked = run(command, evaluate)
    assert (asked.status, "such as --model.which=ema" in asked.err.splitlines()[-1]) == (2, True)
    outcome = run([*command, "--model.which=ema"], evaluate)
    assert outcome.status == 0, outcome.err
    assert 50 < float(re.search(r"test/loss\W+([\d.]+)", outcome.out)[1]) < 100
