from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from lightning_adv.cli.loggers import WANDB_ID
from tests.cli.commands import CONFIGS, DEMO, QUICK, TINY, Built, run

WANDB = ["--config", str(CONFIGS / "loggers/wandb.yaml"), "--trainer.logger.offline=true"]


def built(*args: str) -> Built:
    return Built(["fit", "--config", DEMO, *QUICK, "--run=here", *args])


def test_without_an_account_there_are_tensorboard_and_csv_files_in_the_folder_of_the_run():
    tensorboard, csv = built().trainer.loggers
    assert isinstance(tensorboard, TensorBoardLogger)
    assert isinstance(csv, CSVLogger)
    assert Path(tensorboard.log_dir) == Path("here")
    assert Path(csv.log_dir) == Path("here/csv/version_0")


@pytest.mark.parametrize(
    ("name", "kind", "folder"), [("tensorboard", TensorBoardLogger, "here"), ("csv", CSVLogger, "here/csv/version_0")]
)
def test_a_logger_of_a_file_writes_into_the_folder_of_the_run(name, kind, folder):
    (logger,) = built("--config", str(CONFIGS / f"loggers/{name}.yaml")).trainer.loggers
    assert isinstance(logger, kind)
    assert Path(logger.log_dir) == Path(folder)


def test_a_logger_with_a_folder_of_its_own_keeps_it():
    (logger,) = built("--config", str(CONFIGS / "loggers/csv.yaml"), "--trainer.logger.save_dir=there").trainer.loggers
    assert logger.log_dir.startswith("there")


def test_no_logger_is_an_option():
    assert built("--trainer.logger=false").trainer.loggers == []


def test_wandb_works_offline_by_one_flag_and_a_resumed_run_keeps_its_id():
    first, again = (built(*WANDB).trainer.logger for _ in range(2))
    assert isinstance(first, WandbLogger)
    assert first.save_dir == "here"
    assert first._offline
    assert first.version == again.version == Path("here", WANDB_ID).read_text()


def test_a_sweep_hands_out_the_ids_of_its_runs(monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert built(*WANDB).trainer.logger.version is None
    assert not Path("here", WANDB_ID).exists()


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_wandb_run():
    fit = ["fit", "--config", DEMO, *TINY, *WANDB, "--run=here"]
    assert run(fit).status == 0
    resumed = run([*fit, "--ckpt_path=last", "--trainer.max_epochs=2"])
    assert resumed.status == 0, resumed.err
    files = list(Path("here/wandb").glob("offline-run-*/run-*.wandb"))
    assert {file.stem for file in files} == {f"run-{Path('here', WANDB_ID).read_text()}"}
    assert torch.load("here/checkpoints/last.ckpt", weights_only=True)["epoch"] == 1
    logger = yaml.safe_load(Path("here/config.yaml").read_text())["trainer"]["logger"]["init_args"]
    assert (logger["save_dir"], logger["id"]) == (".", None), "the configuration must not tie other runs to this one"
