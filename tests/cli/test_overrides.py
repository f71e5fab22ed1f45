import json
from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning.cli import LightningCLI

from lightning_adv.cli import CLI, callback_overrides
from lightning_adv.cli.callback_overrides import replacing_callbacks, route_callback_overrides
from lightning_adv.cli.parser import Parser
from lightning_adv.cli.runs import leave_run_folder
from tests.cli.commands import CONFIGS, DEMO, QUICK, TINY, Built, last_callback, resolved, run

FIT = ["fit", "--config", DEMO]


def objective(config: dict) -> dict:
    return config["model"]["init_args"]["objective"]["init_args"]


def callbacks(config: dict) -> list[str]:
    return [each["class_path"].rsplit(".", 1)[-1] for each in config["trainer"]["callbacks"]]


@pytest.mark.parametrize("eps", ["16/255", "0.0627450980392157"])
def test_a_nested_length_is_a_number_or_a_fraction(eps):
    model = Built([*FIT, *QUICK, f"--model.objective.attack.eps={eps}"]).model
    assert model.objective.attack.eps == pytest.approx(16 / 255)


def test_a_value_inside_a_named_attack_is_overridden_and_its_neighbours_stay():
    attacks = last_callback(resolved([*FIT, "--trainer.callbacks.attacks.pgd20.steps=5"]), "AttackEvaluation")[
        "attacks"
    ]
    assert attacks["pgd20"]["init_args"]["steps"] == 5
    assert attacks["pgd20"]["init_args"]["eps"] == 0.2
    assert attacks["fgsm"]["init_args"]["eps"] == 0.2


def test_an_objective_is_exchanged_by_its_name_with_arguments_of_its_own():
    config = resolved([*FIT, "--model.objective=TRADES", "--model.objective.beta=3"])
    assert config["model"]["init_args"]["objective"]["class_path"] == "lightning_adv.objectives.TRADES"
    assert objective(config)["beta"] == 3


def test_a_later_option_wins_over_an_earlier_one_and_over_files_before_it():
    Path("more.yaml").write_text("trainer: {max_epochs: 4}\n")
    assert resolved([*FIT, "--trainer.max_epochs=3", "--config", "more.yaml"])["trainer"]["max_epochs"] == 4
    assert resolved([*FIT, "--config", "more.yaml", "--trainer.max_epochs=3"])["trainer"]["max_epochs"] == 3


@pytest.mark.parametrize(
    "override",
    [
        ["--trainer.callbacks.title=Mine"],
        ["--trainer.callbacks.title", "Mine"],
        ["--trainer.callbacks.init_args.title=Mine"],
    ],
)
def test_an_override_reaches_the_last_callback_that_has_the_argument(override):
    config = resolved([*FIT, *override, "--trainer.callbacks.max_samples=7"])
    assert callbacks(config) == ["Report", "AttackEvaluation"]
    assert last_callback(config, "Report")["title"] == "Mine"
    assert last_callback(config, "AttackEvaluation")["max_samples"] == 7


def test_a_callback_is_reached_by_the_name_that_its_figures_have():
    second = "{class_path: AttackEvaluation, init_args: {name: few, attacks: {fgsm: {class_path: FGSM}}}}"
    added = [*FIT, f"--trainer.callbacks+={second}", "--trainer.callbacks+=Report"]
    config = resolved([*added, "--trainer.callbacks.attacks.max_samples=8", "--trainer.callbacks.few.max_samples", "9"])
    first, other = (each["init_args"] for each in config["trainer"]["callbacks"] if "Attack" in each["class_path"])
    assert (first["max_samples"], list(first["attacks"])) == (8, ["fgsm", "pgd20"])
    assert (other["max_samples"], list(other["attacks"])) == (9, ["fgsm"])


def test_an_attack_may_be_called_as_an_argument_is():
    attacks = "--trainer.callbacks.attacks={seed: {class_path: FGSM}}"
    config = resolved([*FIT, attacks, "--trainer.callbacks.attacks.seed.eps=0.5"])
    evaluation = last_callback(config, "AttackEvaluation")
    assert (evaluation["attacks"]["seed"]["init_args"]["eps"], evaluation["seed"]) == (0.5, 0)


def test_a_training_whose_budget_no_evaluation_follows_says_so():
    typed = [*FIT, *QUICK, "--trainer.fast_dev_run=1", "--model.objective.attack.eps=0.1"]
    note = "note: training meets eps=0.1 (Linf), no evaluation does (fgsm 0.2, pgd20 0.2): "
    assert f"{note}--trainer.callbacks.attacks.pgd20.eps=0.1 follows it\n" in run(typed).err
    assert "note" not in run([*typed, "--trainer.callbacks.attacks.pgd20.eps=0.1"]).err


def test_a_callback_is_told_by_its_class_as_well():
    two = ["fit", "--config", str(CONFIGS / "cifar10_fast.yaml")]
    config = resolved([*two, "--trainer.callbacks.CatastrophicOverfittingGuard.action=stop"])
    assert last_callback(config, "CatastrophicOverfittingGuard")["action"] == "stop"
    config = resolved(
        [*two, "--trainer.callbacks.Report.title", "Mine", "--trainer.callbacks.AttackEvaluation.name=mine"]
    )
    assert last_callback(config, "Report")["title"] == "Mine"
    assert last_callback(config, "AttackEvaluation")["name"] == "mine"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("Foo.bar=1", "trainer.callbacks.Foo: no callback goes by the name of 'Foo'; choose from Report, AttackEv"),
        (
            "AtackEvaluation.together=2",
            "no callback goes by the name of 'AtackEvaluation'; did you mean AttackEvaluation?",
        ),
        ("AttackEvaluation.max_sample=5", "AttackEvaluation has no argument 'max_sample'; did you mean max_samples?"),
        ("attacks.pgd20.step=5", "PGD has no argument 'step'; did you mean steps?"),
        ("max_sample=5", "AttackEvaluation has no argument 'max_sample'; did you mean max_samples?"),
    ],
)
def test_an_override_that_no_callback_takes_is_told_in_one_line(typed, said):
    outcome = run([*FIT, f"--trainer.callbacks.{typed}"])
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_overrides_of_several_callbacks_add_up_whatever_their_order():
    config = resolved(
        [
            *FIT,
            "--trainer.callbacks.max_samples=7",
            "--trainer.callbacks.title=Mine",
            "--trainer.callbacks+=ModelSummary",
            "--trainer.callbacks.attacks.pgd20.steps=3",
            "--trainer.callbacks.baselines.other=a.json",
            "--trainer.callbacks.max_depth=2",
        ]
    )
    assert callbacks(config) == ["Report", "AttackEvaluation", "ModelSummary"]
    assert last_callback(config, "Report")["title"] == "Mine"
    assert last_callback(config, "Report")["baselines"] == {"other": "a.json"}
    assert last_callback(config, "AttackEvaluation")["max_samples"] == 7
    assert last_callback(config, "AttackEvaluation")["attacks"]["pgd20"]["init_args"]["steps"] == 3
    assert last_callback(config, "ModelSummary")["max_depth"] == 2


def test_a_callback_is_added_by_option_and_by_file_and_replaced_without_the_plus():
    ema = str(CONFIGS / "callbacks/ema.yaml")
    added = resolved([*FIT, "--config", ema, "--trainer.callbacks+=ModelSummary"])
    assert callbacks(added) == ["Report", "AttackEvaluation", "EMA", "ModelSummary"]
    replaced = resolved([*FIT, "--trainer.callbacks=ModelSummary"])["trainer"]["callbacks"]
    assert replaced["class_path"] == "pytorch_lightning.callbacks.ModelSummary"


def test_a_changed_class_tells_which_arguments_it_keeps_and_which_are_lost():
    outcome = run([*FIT, *QUICK, "--trainer.fast_dev_run=1", "--model.optimizer=SGD", "--model.objective=TRADES"])
    assert outcome.status == 0
    assert "note: model.objective: TRADES keeps attack, warmup_epochs of AdversarialTraining\n" in outcome.err
    assert "note: model.optimizer: SGD keeps lr of Adam\n" in outcome.err


def test_a_changed_class_tells_what_it_cannot_keep():
    outcome = run([*FIT, *QUICK, "--trainer.fast_dev_run=1", "--model.objective.attack=FGSM"])
    assert outcome.status == 0
    assert "note: model.objective.attack: FGSM keeps eps and drops step_size, steps of PGD\n" in outcome.err


def test_a_class_that_stays_needs_no_note():
    outcome = run([*FIT, *QUICK, "--trainer.fast_dev_run=1", "--model.objective.attack.steps=1"])
    assert outcome.status == 0
    assert "note" not in outcome.err


def test_the_configuration_of_a_run_repeats_it_elsewhere(trained):
    saved = yaml.safe_load((trained / "config.yaml").read_text())
    assert saved["run"] is None
    assert saved["model"]["init_args"]["backbone_options"] == {"width": 4, "hidden": 16}
    outcome = run(["fit", "--config", trained / "config.yaml", "--run=again"])
    assert outcome.status == 0, outcome.err
    assert yaml.safe_load(Path("again/config.yaml").read_text()) == saved
    first, again = (torch.load(each / "checkpoints/last.ckpt", weights_only=True) for each in (trained, Path("again")))
    assert all(torch.equal(value, again["state_dict"][key]) for key, value in first["state_dict"].items())


def test_what_the_user_types_wins_over_what_a_checkpoint_holds(trained):
    last = f"--ckpt_path={trained / 'checkpoints/last.ckpt'}"
    typed = [last, "--model.objective.attack.eps=0.05", "--model.objective.warmup_epochs=0"]
    fit = Built([*FIT, *TINY, *typed])
    assert fit.model.objective.attack.eps == 0.05
    assert fit.model.objective.warmup_epochs == 0
    assert resolved(["test", *typed])["model"]["init_args"]["objective"]["init_args"]["warmup_epochs"] == 0


def test_lightning_still_has_the_method_that_would_let_the_checkpoint_win():
    assert "_parse_ckpt_path" in vars(LightningCLI), "it was renamed: the override in CLI has no effect any more"
    assert "_parse_ckpt_path" in vars(CLI)


def test_the_model_learns_from_the_data_what_its_images_are():
    model = Built([*FIT, *QUICK]).model
    assert model.num_classes == 10
    assert model.backbone.normalize.mean.item() == pytest.approx(0.1307)


def test_typed_figures_of_the_images_win_over_those_of_the_data_and_are_told(trained):
    typed = ["--model.mean=[0.25]", "--model.std=[0.5]"]
    outcome = run([*FIT, *TINY, *typed, "--run=typed"])
    assert outcome.status == 0, outcome.err
    assert outcome.err.count("normalisation: ") == 1
    assert "normalisation: mean [0.25], std [0.5] (from mean and std as given)\n" in outcome.err
    told = json.loads(Path("typed/report/results.json").read_text())["run"]["normalisation"]
    assert (told["mean"], told["std"], told["assumed"]) == ([0.25], [0.5], False)
    assert "mean [0.25], std [0.5] (from mean and std as given)" in Path("typed/report/index.html").read_text()
    assert run(["fit", "--config", "typed/config.yaml", "--run=again"]).err.count("mean [0.25], std [0.5]") == 1


def test_checkpoints_are_switched_off_by_lightnings_own_option():
    outcome = run([*FIT, *TINY, "--trainer.enable_checkpointing=false", "--run=bare"])
    assert outcome.status == 0, outcome.err
    assert Path("bare/config.yaml").is_file()
    assert not Path("bare/checkpoints").exists()


REPLACING = """trainer:
  callbacks:
  - Report
  - {class_path: AttackEvaluation, init_args: {attacks: {fgsm: {class_path: FGSM, init_args: {eps: 0.1}}}}}
"""


def arguments(config: dict) -> tuple[list, list, object]:
    evaluation = last_callback(config, "AttackEvaluation")
    return evaluation["eps_sweep"], list(evaluation["attacks"]), last_callback(config, "Report")["title"]


@pytest.mark.parametrize("form", [["--config", "mine.yaml"], ["--config=mine.yaml"], ["-c", "mine.yaml"]])
def test_a_list_of_callbacks_replaces_that_of_the_file_before_it(form):
    Path("mine.yaml").write_text(REPLACING)
    sweep = "--trainer.callbacks.eps_sweep=[0.1]"
    config = resolved([*FIT, sweep, *form, "--trainer.callbacks.attacks.fgsm.eps=0.3"])
    assert callbacks(config) == ["Report", "AttackEvaluation"]
    assert arguments(config) == ([], ["fgsm"], None)
    assert last_callback(config, "AttackEvaluation")["attacks"]["fgsm"]["init_args"]["eps"] == 0.3


def test_a_list_that_is_typed_replaces_what_was_before_it():
    attacks = "attacks: {fgsm: {class_path: FGSM, init_args: {eps: 0.1}}}"
    typed = f"[Report, {{class_path: AttackEvaluation, init_args: {{{attacks}}}}}]"
    sweep = "--trainer.callbacks.eps_sweep=[0.1]"
    for form in ([f"--trainer.callbacks={typed}"], ["--trainer.callbacks", typed]):
        assert arguments(resolved([*FIT, sweep, *form])) == ([], ["fgsm"], None)


def test_a_file_that_adds_callbacks_replaces_none():
    Path("more.yaml").write_text("trainer: {callbacks+: [{class_path: ModelSummary}]}\n")
    config = resolved([*FIT, "--trainer.callbacks.eps_sweep=[0.1]", "--config", "more.yaml"])
    assert callbacks(config) == ["Report", "AttackEvaluation", "ModelSummary"]
    assert last_callback(config, "AttackEvaluation")["eps_sweep"] == [0.1]


@pytest.fixture(scope="module")
def parser() -> Parser:
    parser = Built([*FIT, *QUICK, "--trainer.callbacks=[]", "--trainer.fast_dev_run=1"]).parser
    leave_run_folder()
    return parser


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["--config", "more.yaml"],
        ["--config=other.yaml", "--trainer.callbacks+=Report"],
        ["--config=other.yaml", "--config=more.yaml"],
        ["--config=other.yaml", "-c=more.yaml", "--config", "more.yaml"],
        ["--trainer.callbacks", "[{class_path: Report}, {class_path: EpochLine}]"],
        ["--trainer.callbacks=[{class_path: Report}]", "--trainer.callbacks+=EpochLine"],
        ["--trainer={callbacks: [{class_path: Report}, {class_path: EpochLine}]}"],
        ["--trainer.callbacks=null"],
        ["--config", "by_path.yaml"],
    ],
)
def test_the_callbacks_alone_are_parsed_to_what_the_whole_command_gives(said, parser, monkeypatch):
    Path("more.yaml").write_text("trainer: {callbacks+: [{class_path: EpochLine}]}\n")
    Path("other.yaml").write_text("trainer: {callbacks: {class_path: EpochLine}}\n")
    Path("by_path.yaml").write_text("trainer: {callbacks: list.yaml}\n")
    Path("list.yaml").write_text("[{class_path: Report}, {class_path: EpochLine}]\n")
    command = replacing_callbacks([*FIT, *said, "--trainer.callbacks.title=Mine"])
    alone = route_callback_overrides(parser, command)
    monkeypatch.setattr(callback_overrides, "_of_the_list", lambda args: None)
    assert alone == route_callback_overrides(parser, command)


def test_overrides_of_a_callback_that_is_not_the_last_become_one_list(parser):
    typed = ["--trainer.callbacks.title=Mine", "--trainer.callbacks.baselines.other=a.json"]
    routed = route_callback_overrides(parser, [*FIT, *typed, "--trainer.callbacks.self_contained=true"])
    assert [arg.partition("=")[0] for arg in routed[len(FIT) :]] == ["--trainer.callbacks"]


def test_an_override_behind_a_wrong_one_is_the_parsers_to_refuse():
    outcome = run([*FIT, "--trainer.callbacks.no_such_argument=1", "--trainer.callbacks.title=Mine"])
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "no_such_argument" in outcome.err


@pytest.mark.parametrize("typed", ["1", "1.0"])
@pytest.mark.parametrize("place", ["line", "file", "saved"])
def test_one_image_and_all_of_them_are_told_apart_wherever_the_number_stands(typed, place):
    """``poisoned`` is a number of images or a share of them: 1 is one image, 1.0 is every one."""
    data = {"class_path": "PoisonedDataModule", "init_args": {"data": "MNISTSubset", "trigger": "Patch", "target": 0}}
    data["init_args"]["poisoned"] = 3 if place == "line" else yaml.safe_load(typed)
    Path("poison.yaml").write_text(yaml.safe_dump({"data": data}))
    line = ["fit", "--config", DEMO, "--config=poison.yaml", *([f"--data.poisoned={typed}"] if place == "line" else [])]
    if place == "saved":
        Path("saved.yaml").write_text(yaml.safe_dump(resolved(line)))
        line = ["fit", "--config=saved.yaml"]
    poisoned, expected = Built(line).datamodule.poisoned, yaml.safe_load(typed)
    assert (poisoned, type(poisoned)) == (expected, type(expected))
