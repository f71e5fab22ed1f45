"""A run that goes on from a stranger's checkpoint: its states are data, and lead to no file but the run's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint

from tests.cli.commands import DEMO, TINY, Outcome, run
from tests.cli.hostile import LAYER, MARK, PROCESS

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

SAVES = "--trainer.callbacks+=ModelCheckpoint"
FOLDER = "runs/mine/checkpoints"
STATE = ModelCheckpoint().state_key


def resumed(trained: Path, change: Callable[[dict], object], *options: str) -> Outcome:
    checkpoint = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, "stranger.ckpt")
    longer = "--trainer.max_epochs=2"
    return run(["fit", "--config", DEMO, *TINY, longer, "--ckpt_path=stranger.ckpt", "--run=runs/mine", *options])


def saved(best: str, **more: object) -> dict:
    """What a checkpoint holds of ``ModelCheckpoint``."""
    models = {"best_model_path": best, "kth_best_model_path": best, "last_model_path": best, "best_k_models": {}}
    scores = {"best_model_score": torch.tensor(0.5), "kth_value": torch.tensor(0.5), "current_score": None}
    return {"monitor": None, "dirpath": FOLDER, **models, **scores, **more}


@pytest.mark.parametrize("spelled", ["local://{}", "file://{}", "{folder}/../../../precious", "{folder}/x::local://{}"])
def test_a_file_that_the_run_did_not_save_is_not_removed_in_favour_of_a_better_one(trained, spelled):
    precious = Path("precious")
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    path = spelled.format(precious.resolve(), folder=FOLDER)
    with pytest.warns(UserWarning, match="the best models so far are forgotten"):
        outcome = resumed(trained, lambda each: each["callbacks"].update({STATE: saved(path)}), SAVES)
    assert outcome.status == 0, outcome.err
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert len([*Path(FOLDER).glob("epoch=*.ckpt")]) == 1


def test_the_runs_own_best_file_is_removed_as_ever(trained):
    old = Path(FOLDER, "old.ckpt")
    old.parent.mkdir(parents=True)
    old.touch()
    outcome = resumed(trained, lambda each: each["callbacks"].update({STATE: saved(str(old))}), SAVES)
    assert outcome.status == 0, outcome.err
    assert not old.exists()


def test_no_text_of_a_checkpoint_leads_a_run_out_of_its_folder(trained, tmp_path):
    """Every text of every part but the weights, and every name of an attack, a class or a scalar, is a path."""
    elsewhere = tmp_path / "elsewhere"

    def led_away(value: object) -> object:
        if isinstance(value, dict):
            return {key: led_away(each) for key, each in value.items()}
        if isinstance(value, list):
            return [led_away(each) for each in value]
        return f"{elsewhere}/../elsewhere/{value}" if isinstance(value, str) and ":" not in value else value

    def change(checkpoint: dict) -> None:
        states = checkpoint["callbacks"]
        assert sum(map(str(states).count, ("fgsm", "pgd"))) > 4
        checkpoint["callbacks"] = {key: led_away(state) for key, state in states.items()}
        checkpoint["hyper_parameters"] = led_away(checkpoint["hyper_parameters"])
        config = yaml.safe_load(checkpoint["lightning_adv_config"])
        config["model"]["init_args"]["backbone"] = LAYER
        checkpoint |= {"lightning_adv_config": yaml.safe_dump(config), "hparams_name": "os.system", "_class": PROCESS}

    outcome = resumed(trained, change)
    assert outcome.status == 0, outcome.err
    assert not elsewhere.exists()
    assert not Path(MARK).exists()
    written = {path.parts[0] for path in (each.relative_to(tmp_path) for each in tmp_path.rglob("*"))}
    assert written == {"runs", "stranger.ckpt"}
    assert [each.name for each in Path("runs").iterdir()] == ["mine"]
