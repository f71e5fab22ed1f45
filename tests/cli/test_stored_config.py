"""A checkpoint's configuration is data: nothing that a stranger writes there is executed, imported or written."""

import inspect
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import _common as jsonargparse_settings
from PIL import Image
from safetensors.torch import save_file

import lightning_adv
from lightning_adv.callbacks import RunRecord
from lightning_adv.cli import evaluate
from lightning_adv.cli.allowed_classes import PACKAGES, imports_limited_to, is_allowed
from lightning_adv.cli.stored_config import OUTPUTS, check_no_other_files, read_stored_config, without_outputs
from lightning_adv.errors import InputError
from tests import processes
from tests.cli.commands import CONFIGS, ROOT, run
from tests.cli.hostile import IMPORT, LAYER, MARK, MODULE, PROCESS, hostile, texts
from tests.cli.test_evaluate import FEW, WEAK

QUICK = (*FEW, *WEAK)


@pytest.fixture(scope="session")
def stored(trained) -> str:
    """What an honest run stores."""
    return torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["lightning_adv_config"]


@pytest.fixture
def stranger(trained, monkeypatch, tmp_path):
    """Makes a checkpoint from that of an honest run; a module that leaves a mark when imported is in reach."""
    Path(f"{MODULE}.py").write_text(f"open({MARK!r}, 'w').close()\nclass Anything: pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    def make(change=lambda config: None, **content: object) -> str:
        checkpoint = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
        config = yaml.safe_load(checkpoint["lightning_adv_config"])
        change(config)
        checkpoint |= {"lightning_adv_config": yaml.safe_dump(config), **content}
        torch.save(checkpoint, "stranger.ckpt")
        return "stranger.ckpt"

    yield make
    sys.modules.pop(MODULE, None)


def one_line(outcome) -> str:
    assert outcome.status == 2, outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    errors = [line for line in outcome.err.splitlines() if not line.startswith(("note: ", "run folder: "))]
    assert len(errors) == 1, outcome.err
    assert len(errors[0]) < 420
    return errors[0]


@pytest.fixture(scope="session")
def outcomes(stored, tmp_path_factory) -> list[dict]:
    """Of all hostile configurations, in a process that is watched."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "base.yaml").write_text(stored)
    (folder / f"{MODULE}.py").write_text(f"open({MARK!r}, 'w').close()\nclass Anything: pass\n")
    paths = os.pathsep.join([str(ROOT), str(folder)])
    variables = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    (folder / "watched.py").write_text("from tests.cli.hostile import main\n\nmain('base.yaml', 'outcomes.json')\n")
    done = processes.run([sys.executable, "watched.py"], folder, **variables)
    assert done.returncode == 0, done.stderr
    assert not (folder / MARK).exists()
    return json.loads((folder / "outcomes.json").read_text())


def test_two_hundred_hostile_configurations_are_told_apart_by_kind(stored):
    base = yaml.safe_load(stored)
    kinds = Counter(kind for kind, _ in [*hostile(base), *texts(base)])
    assert kinds.total() > 200
    assert min(kinds.values()) >= 6
    assert kinds["process"] == kinds["import"] + 3 > 100  # every place of an argument


@pytest.mark.slow
def test_a_hostile_configuration_does_nothing_and_is_refused_in_one_line(outcomes, stored):
    base = yaml.safe_load(stored)
    assert len(outcomes) == len([*hostile(base), *texts(base)])
    did = [(each["kind"], each["seen"]) for each in outcomes if each["seen"]]
    assert not did
    refusals = ("InputError: the configuration stored in stranger.ckpt ", "error: ")
    said = [each for each in outcomes if not each["message"].startswith(refusals)]
    assert not said
    assert not [each for each in outcomes if len(each["message"]) > 400 or "\n" in each["message"].strip()]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "test", "validate"])
def test_a_class_in_a_checkpoint_that_would_start_a_process_is_refused_by_name(stranger, command):
    path = stranger(lambda config: config["model"]["init_args"].update(backbone=LAYER))
    args = [f"--ckpt_path={path}"]
    message = one_line(run(args, evaluate) if command == "evaluate" else run([command, *args]))
    assert message == (
        "error: the configuration stored in stranger.ckpt names 'torch.nn.Linear' at 'model.backbone', which a file may"
        " not name; if you wrote it or trust it, add --trust torch.nn.Linear"
    )
    assert not Path(MARK).exists()


@pytest.mark.parametrize("command", ["evaluate", "test"])
def test_a_callback_in_a_checkpoint_is_not_imported(stranger, command):
    path = stranger(lambda config: config["trainer"]["callbacks"].append(IMPORT))
    args = [f"--ckpt_path={path}"]
    message = one_line(run(args, evaluate) if command == "evaluate" else run([command, *args]))
    assert f"'{MODULE}.Anything' at 'trainer.callbacks'" in message
    assert message.endswith(f"add --trust {MODULE}")
    assert not Path(MARK).exists()


def test_what_the_user_types_lets_a_class_in_and_what_a_file_says_does_not(stranger):
    path = stranger(lambda config: config["trainer"]["callbacks"].append(IMPORT) or config.update(trust=[MODULE]))
    one_line(run([f"--ckpt_path={path}"], evaluate))
    assert not Path(MARK).exists()
    outcome = run([f"--ckpt_path={path}", *QUICK, f"--trust={MODULE}"], evaluate)
    assert outcome.status == 0, outcome.err
    assert Path(MARK).exists()


def test_trust_in_one_package_lets_no_other_in(stranger):
    path = stranger(lambda config: config["model"]["init_args"].update(backbone=LAYER))
    message = one_line(run([f"--ckpt_path={path}", "--trust", MODULE, "--trust=torch.nn.Linear"], evaluate))
    assert "names 'subprocess.Popen' at 'model.backbone.device'" in message
    assert message.endswith("no run needs that, so do not use this file")
    assert not Path(MARK).exists()


@pytest.mark.parametrize("name", ["*", "", "my package", "../x", "torch."])
def test_trust_needs_the_name_of_something(trained, name):
    args = [f"--ckpt_path={trained / 'checkpoints/last.ckpt'}", f"--trust={name}"]
    assert one_line(run(args, evaluate)).startswith("error: --trust takes a package, a module or a class")


@pytest.mark.parametrize(
    ("hyper_parameters", "named"),
    [
        ({"backbone": LAYER}, "backbone"),
        ({"backbone": PROCESS}, "backbone"),
        ({"backbone_options": {"width": 4, "hidden": PROCESS}}, "backbone_options"),
        ({"mean": [PROCESS]}, "mean"),
        ({"num_classes": True}, "num_classes"),
        ({"backbone_options": {"checkpoint_path": "stranger.pth"}}, "checkpoint_path"),
        ({"backbone_options": {"cache_dir": "elsewhere"}}, "cache_dir"),
    ],
)
def test_a_source_of_transferred_attacks_is_built_from_plain_data(stranger, trained, hyper_parameters, named):
    honest = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["hyper_parameters"]
    path = stranger(hyper_parameters=honest | hyper_parameters)
    attacks = "attacks: {fgsm: {class_path: FGSM, init_args: {eps: 8/255}}}"
    evaluation = f"[{{class_path: TransferEvaluation, init_args: {{sources: {{other: {path}}}, {attacks}}}}}]"
    last = f"--ckpt_path={trained / 'checkpoints/last.ckpt'}"
    message = one_line(run([last, f"--trainer.callbacks={evaluation}"], evaluate))
    assert message.startswith("error: source 'other': stranger.ckpt: ")
    assert named in message
    assert not Path(MARK).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ([1], "is no text but of type list"),
        (7, "is no text but of type int"),
        ("just words", "must hold settings such as 'data: ...', got 'just words'"),
        ("trainer: [", "is not valid YAML: line 2: did not find expected node content"),
        ("trainer: {callbacks: Report}", "must have classes with their arguments as trainer.callbacks, got 'Report'"),
        ("model: {class_path: 7}", "must have the name of a class as class_path of 'model', got int 7"),
    ],
)
def test_a_configuration_that_is_none_is_refused_in_one_line(stranger, text, message):
    path = stranger(lightning_adv_config=text)
    assert one_line(run([f"--ckpt_path={path}"], evaluate)) == f"error: the configuration stored in {path} {message}"


def test_where_something_is_written_is_not_taken_from_a_checkpoint(stranger, tmp_path):
    elsewhere = tmp_path / "elsewhere"

    def change(config: dict) -> None:
        config["trainer"]["callbacks"][1]["init_args"]["verdicts"] = str(elsewhere)
        config["trainer"]["callbacks"][0]["init_args"]["folder"] = str(elsewhere)
        config["trainer"]["default_root_dir"] = config["run"] = str(elsewhere)
        config["last_checkpoint"]["folder"] = str(elsewhere)

    outcome = run([f"--ckpt_path={stranger(change)}", "--run=here", *QUICK], evaluate)
    assert outcome.status == 0, outcome.err
    assert "note: trainer.callbacks.verdicts of the checkpoint is left out" in outcome.err
    assert Path("here/report/index.html").is_file()
    assert not elsewhere.exists()


def test_a_configuration_does_not_ask_for_what_is_typed():
    with pytest.raises(InputError, match="leads to another file, '-'"):
        check_no_other_files({"model": {"init_args": {"objective": "-"}}}, "x.ckpt")


@pytest.mark.parametrize("text", ["class_path: CrossEntropy\n", "{}", "a\nb\n", "# \N{SNOWMAN}", ""])
def test_a_configuration_leads_to_no_file_of_settings(stranger, text, tmp_path):
    Path("more.npz").write_text(text)

    def change(config: dict) -> None:
        config["model"]["init_args"]["objective"] = str(tmp_path / "more.npz")

    message = one_line(run([f"--ckpt_path={stranger(change)}"], evaluate))
    assert message.startswith("error: the configuration stored in stranger.ckpt leads to another file, '")


def test_files_of_arrays_pictures_weights_and_lists_are_none_of_settings(tmp_path):
    np.savez("images.npz", images=np.zeros(3))
    save_file({"weight": torch.zeros(1)}, "weights.safetensors")
    Image.new("L", (2, 2)).save("picture.png")
    torch.save({}, "other.ckpt")
    names = ["images.npz", "weights.safetensors", "picture.png", "other.ckpt"]
    os.mkfifo("pipe")
    Path("classes.txt").write_text("cat\ndog\n")
    lists = {"class_list": "classes.txt", "only": "classes.txt"}
    check_no_other_files({"data": {"class_path": "lightning_adv.data.ImageFolder", "init_args": lists}}, "x.ckpt")
    for other in ("lightning_adv.data.MNIST", "stranger.ImageFolder"):
        with pytest.raises(InputError, match="another file"):
            check_no_other_files({"data": {"class_path": other, "init_args": lists}}, "x.ckpt")
    check_no_other_files([*names, "pipe", {"root": str(tmp_path)}, "no file", "nul\0", "x" * 5000], "x.ckpt")


@pytest.mark.parametrize(
    ("args", "reached"),
    [
        (["--model=mine.nets.Net"], {"mine"}),
        (["--model", "mine.nets.Net"], {"mine"}),
        (["--data.root=x/evil.py", "--trainer.callbacks.max_samples=3", "--run", "runs/a.b/c.d"], set()),
        (["--trainer.callbacks=[{class_path: mine.Watch}]"], {"mine"}),
    ],
)
def test_what_is_typed_as_a_class_may_be_imported_and_no_option_or_path_is(args, reached):
    with imports_limited_to([], args, []):
        verdicts = jsonargparse_settings.parsing_settings["import_path_verdicts"]
        assert {name for name in ("mine", "data", "trainer", "evil", "x", "c", "a") if verdicts.get(name)} == reached
        assert verdicts["*"] is False
    assert "*" not in jsonargparse_settings.parsing_settings["import_path_verdicts"]


def test_every_argument_that_says_where_to_write_is_known():
    words = {"cache", "dir", "dirpath", "download", "export", "folder", "log", "output", "save", "verdicts"}
    others = {"log_norms", "save_images"}  # logarithms; a number, of images in the run's own folder
    found = set()
    for package in PACKAGES:
        module = getattr(lightning_adv, package)
        for cls in {getattr(module, name) for name in module.__all__} - {RunRecord}:
            if inspect.isclass(cls):
                found |= {name for name in inspect.signature(cls).parameters if words & set(name.split("_"))}
    assert {"cache", "download", "export", "folder", "verdicts"} <= found
    assert found - others - set(OUTPUTS) == set()


def test_outputs_are_left_out_at_any_depth_and_named_as_on_the_command_line():
    captions = {"class_path": "Captions", "init_args": {"path": "p", "cache": "/c"}}
    inner = {"class_path": "MNIST", "dict_kwargs": {"download": True, "root": "d"}}
    data = {"class_path": "PurifiedDataModule", "init_args": {"cache": "x", "data": inner, "purifiers": [captions]}}
    cleaned, names = without_outputs({"data": data}, "")
    assert names == ["data.cache", "data.data.download", "data.purifiers.cache"]
    assert cleaned["data"]["init_args"]["data"] == {"class_path": "MNIST", "dict_kwargs": {"root": "d"}}
    assert cleaned["data"]["init_args"]["purifiers"] == [{"class_path": "Captions", "init_args": {"path": "p"}}]


def test_what_this_project_trains_may_be_named():
    files = sorted(CONFIGS.rglob("*.yaml"))
    named = {name for file in files for name in re.findall(r"class_path: *([\w.]+)", file.read_text())}
    assert len(named) > 40
    assert {name for name in named if not is_allowed(name)} == set()
    assert all(map(is_allowed, ("lightning_adv.attacks.PGD", "lightning_adv.attacks.pgd.PGD", "torch.optim.SGD")))


@pytest.mark.parametrize("title", ["Attack: PGD", "8/255 & more: *bold*", "[x] {y}", "C:\\runs", "- 1", "2001-01-01"])
def test_a_text_is_a_text(title):
    text = yaml.safe_dump({"trainer": {"callbacks": [{"class_path": "Report", "init_args": {"title": title}}]}})
    assert read_stored_config(text, "x.ckpt")["trainer"]["callbacks"][0]["init_args"]["title"] == title


def test_an_empty_configuration_is_one_of_nothing():
    assert read_stored_config("", "x.ckpt") == read_stored_config("null", "x.ckpt") == {}


def test_the_help_says_how_a_class_is_let_in():
    assert "--trust my_package" in run(["--help"], evaluate).out
    assert "--trust my_package" in run(["test", "--help"]).out


def test_a_refusal_is_the_users_mistake():
    with pytest.raises(InputError, match=r"names 'subprocess.Popen' at 'data'"):
        read_stored_config("data: {class_path: subprocess.Popen}", "x.ckpt")
