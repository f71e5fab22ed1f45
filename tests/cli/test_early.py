import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_adv.cli import entry, front, program
from lightning_adv.cli.early import first_slip
from lightning_adv.cli.kept import keep, recall, state
from lightning_adv.cli.learning import learnt
from tests.cli.commands import CONFIGS, DEMO, run
from tests.processes import environment

DEMO_TEXT = Path(DEMO).read_text()
OVER = {
    "Attack": {"callbacks": ("AttackEvaluation", "attacks")},
    "Inspector": {"callbacks": ("BackdoorInspection", "inspectors")},
    "Scan": {"callbacks": ("PoisonScan", "scans")},
    "Detector": {"callbacks": ("DetectionEvaluation", "detectors")},
    "Purifier": {"callbacks": ("PurificationEvaluation", "purifiers")},
    "Fooling": {"callbacks": ("FoolingImages", "methods")},
    "Mitigation": {"callbacks": ("BackdoorMitigation", "mitigation")},
    "Trigger": {"data": ("PoisonedDataModule", "trigger")},
    "Augmentation": {"data": ("MNIST", "augment")},
    "Objective": {"model": ("ClassifierModule", "objective")},
    "Optimizer": {"model": ("ClassifierModule", "optimizer")},
    "LRScheduler": {"model": ("ClassifierModule", "lr_scheduler")},
}
"""Where a class of a kind may stand: in which section, of which class, as which argument."""
SOME = {
    "Attack": "PGD",
    "Inspector": "NeuralCleanse",
    "Scan": "SCAn",
    "Detector": "STRIP",
    "Purifier": "JPEG",
    "Fooling": "FoolingGradient",
    "Mitigation": "ANP",
    "Trigger": "Patch",
    "Augmentation": "CropFlip",
    "Objective": "NFGSM",
    "Optimizer": "torch.optim.Adam",
    "LRScheduler": "StepLR",
}


@pytest.fixture(scope="module")
def known() -> dict:
    """What a start keeps, after its way through a file."""
    return json.loads(json.dumps(learnt()))


def with_a(kind: str, value: object) -> dict:
    """The demo with a value where a class of a kind stands."""
    ((section, (owner, argument)),) = OVER[kind].items()
    named = {"it": value} if section == "callbacks" and argument.endswith("s") else value
    cls = {"class_path": owner, "init_args": {argument: named}}
    return yaml.safe_load(DEMO_TEXT) | ({"trainer": {"callbacks": [cls]}} if section == "callbacks" else {section: cls})


def told(args: list[str], known: dict) -> str:
    """What is said early of a command line; the parser says the same."""
    outcome = run([*args, "--print_config"])
    assert outcome.status == 2, outcome.out
    slip = first_slip(args, known)
    assert f"error: {slip}\n" == outcome.err
    return slip


def in_a_file(config: dict) -> list[str]:
    Path("slip.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return ["fit", "--config", "slip.yaml"]


@pytest.mark.parametrize("kind", OVER)
def test_a_class_that_there_is_not_is_told_in_the_words_of_the_parser(kind, known):
    slip = told(in_a_file(with_a(kind, "Nonsens")), known)
    assert "there is no class 'Nonsens'; choose from " in slip
    assert SOME[kind].rpartition(".")[2] in slip


@pytest.mark.parametrize(("kind", "name"), SOME.items())
def test_an_argument_that_a_class_does_not_have_is_told_in_the_words_of_the_parser(kind, name, known):
    slip = told(in_a_file(with_a(kind, {"class_path": name, "init_args": {"nonsens": 3}})), known)
    assert f"{name.rpartition('.')[2]} has no argument 'nonsens'; " in slip


DEEP = {"class_path": "WorstOf", "init_args": {"attack": 3}}
NESTED = {"class_path": "EOT", "init_args": {"attack": {"class_path": "PGD", "init_args": {"step": 3}}}}


@pytest.mark.parametrize(
    ("config", "slip"),
    [
        ({"modle": 3}, "there is no option modle; did you mean model?"),
        ({"trainer": {"max_epoch": 3}}, "there is no option trainer.max_epoch; did you mean trainer.max_epochs?"),
        (
            {"trainer": {"callbacks": [], "max_epoch": 3}},
            "there is no option trainer.max_epoch; did you mean trainer.max_epochs?",
        ),
        ({"last_checkpoint": {"every": 3}}, "there is no option last_checkpoint.every"),
        ({"data": "MNISTSubst"}, "data: there is no class 'MNISTSubst'; did you mean MNISTSubset?"),
        (
            {"data": {"class_path": "MNIST", "init_args": {"rot": "x"}}},
            "data: MNIST has no argument 'rot'; did you mean",
        ),
        (
            {"trainer": {"logger": "WandLogger"}},
            "trainer.logger: there is no class 'WandLogger'; did you mean WandbLogger?",
        ),
        (
            {"trainer": {"callbacks+": {"class_path": "EarlyStoping"}}},
            "trainer.callbacks: there is no class 'EarlyStoping'; did you mean EarlyStopping?",
        ),
        (with_a("Attack", NESTED), "trainer.callbacks.attacks.attack: PGD has no argument 'step'; did you mean steps?"),
        (with_a("Attack", DEEP), "trainer.callbacks.attacks: WorstOf has no argument 'attack'; did you mean attacks?"),
    ],
)
def test_a_slip_anywhere_in_a_file_is_told_in_the_words_of_the_parser(config, slip, known):
    assert told(in_a_file(yaml.safe_load(DEMO_TEXT) | config), known).startswith(slip)


@pytest.mark.parametrize(
    "option",
    [
        "--trainer.max_epoch=3",
        "--trainr.max_epochs=3",
        "--last_checkpoint.every=3",
        "--data=MNISTSubst",
        "--model=ClasifierModule",
        "--trainer.callbacks+=EarlyStoping",
        "--trainer.logger=WandLogger",
    ],
)
def test_a_slip_on_the_command_line_is_told_in_the_words_of_the_parser(option, known):
    assert told(["fit", "--config", DEMO, option], known)
    assert first_slip(["fit", "--config", DEMO, *option.split("=")], known) == first_slip(["fit", option], known)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_configuration_of_the_program_is_taken_for_a_slip(path, known):
    assert path.parent.name == "sweeps" or first_slip(["fit", "--config", str(path)], known) is None


@pytest.mark.parametrize(
    "option",
    [
        "--model.backbone=lenet",
        "--model.objective=TRADES",
        "--model.objective.attack.eps=16/255",
        "--trainer.callbacks.attacks.pgd20.steps=50",
        "--trainer.callbacks.who.max_samples=5",
        "--trainer.callbacks+=ModelSummary",
        "--trainer.callbacks=[]",
        "--trainer.logger=false",
        "--trainer.logger.offline=true",
        "--trainer.strategy.process_group_backend=gloo",
        "--last_checkpoint.every_n_steps=5",
        "--data.max_train_samples=40",
        "--seed_everything=1",
        "--ckpt_path=last",
        "--json",
        "--print_config",
    ],
)
def test_no_option_is_taken_for_a_slip(option, known):
    assert first_slip(["fit", "--config", DEMO, option], known) is None


@pytest.mark.parametrize(
    "config",
    [
        {"model": "my_package.Net"},
        {"model": "Nonsens", "data": "Nonsens"},
        {"model": "Nonsens", "trainer": {"callbacks": ["my_package.Callback"]}},
        {"data": {"class_path": "MNIST", "init_args": {"batch_size": "x"}}},
        {"data": {"class_path": "MNIST", "batch_size": 3}},
        {"model": {"init_args": {"nonsens": 3}}},
        {"model": "network"},
        {"fit": {"modle": 3}},
        {3: 4},
    ],
)
def test_what_is_not_known_for_sure_is_left_to_the_parser(config, known):
    Path("network").write_text("class_path: ClassifierModule")
    assert first_slip(in_a_file(yaml.safe_load(DEMO_TEXT) | config), known) is None


def test_classes_of_the_user_may_bring_names(known):
    args = in_a_file({"model": "Nonsens"})
    assert first_slip(args, known) is not None
    assert first_slip([*args, "--data=my_package.Data"], known) is None


def test_nothing_that_a_file_names_is_imported(known, monkeypatch):
    Path("stranger.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(".")
    assert first_slip(in_a_file({"model": "stranger.Net", "data": {"class_path": "stranger.Data"}}), known) is None
    assert "stranger" not in sys.modules


@pytest.mark.parametrize(
    "damaged", [None, [], {}, {"options": 3, "places": 4}, {"options": [], "places": {"": 5}}, "x"]
)
def test_an_index_of_another_shape_says_nothing(damaged):
    assert first_slip(in_a_file({"model": "Nonsens"}), damaged) is None


@pytest.fixture
def starting(tmp_path, monkeypatch) -> None:
    """As in a process that has imported nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(front, "_starts", lambda: True)


def _not_asked(args: list[str]) -> None:
    raise AssertionError(args)


@pytest.mark.usefixtures("starting")
def test_a_first_run_keeps_what_answers_the_slips_of_the_next(monkeypatch):
    assert run(["fit", "--config", DEMO, "--print_config"]).status == 0
    monkeypatch.setattr(entry, "train", _not_asked)
    outcome = run(["fit", *in_a_file({"modle": 3})[1:]])
    assert (outcome.status, outcome.err) == (2, "error: there is no option modle; did you mean model?\n")


@pytest.mark.usefixtures("starting")
def test_a_run_does_not_depend_on_what_would_be_kept(monkeypatch):
    monkeypatch.setattr("lightning_adv.cli.learning.learnt", lambda: 1 / 0)
    assert run(["fit", "--config", DEMO, "--print_config"]).status == 0
    assert recall(front.CLASSES) is None


@pytest.mark.usefixtures("starting")
def test_a_file_that_is_not_there_is_told_before_anything_is_imported(monkeypatch):
    for name in ("train", "evaluate", "audit"):
        monkeypatch.setattr(entry, name, _not_asked)
    for command in ("fit", "evaluate", "audit"):
        outcome = run([command, "--config", "nowhere.yaml"], program)
        assert outcome.status == 2
        assert outcome.err.startswith("error: there is no configuration file nowhere.yaml; ")


@pytest.mark.usefixtures("starting")
@pytest.mark.parametrize("args", [["fit", "--help"], ["evaluate", "--help"], ["help", "PGD"], ["list", "attacks"]])
def test_a_page_that_was_kept_is_the_fresh_one(args, monkeypatch):
    fresh = run(args, program)
    with monkeypatch.context() as patch:
        for name in ("train", "evaluate"):
            patch.setattr(entry, name, _not_asked)
        patch.setattr(front, "_tell", _not_asked)
        assert run(args, program) == fresh
    assert run(args, program) == fresh


ALONE = """
import sys
from lightning_adv.cli import train
try:
    train(sys.argv[1:])
finally:
    print(sorted({"torch", "pytorch_lightning"} & {*sys.modules}))
"""


@pytest.mark.slow
def test_a_slip_is_told_without_torch_and_lightning(known, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    state.cache_clear()  # another test may have been the first to ask, with folders of its own on the path
    keep(front.CLASSES, known)
    line = [sys.executable, "-c", ALONE, *in_a_file({"modle": 3})]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert done.stderr == "error: there is no option modle; did you mean model?\n"
