import csv

import pytest
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from lightning_adv.attacks import FGSM
from lightning_adv.callbacks import AttackEvaluation, RunRecord
from lightning_adv.callbacks.run_record import run_folder
from tests.callbacks.strangers import images, trainer

COUNT = 40


@pytest.fixture
def result(model, tmp_path):
    """Of an evaluation that wrote to both loggers."""
    loggers = [TensorBoardLogger(tmp_path, name="board"), CSVLogger(tmp_path, name="csv")]
    evaluation = AttackEvaluation({"fgsm": FGSM(eps=0.06)}, eps_sweep=[0.06], sweep_samples=10)
    runner = trainer(evaluation, folder=tmp_path, logger=loggers)
    runner.validate(model, DataLoader(images(COUNT), batch_size=8), verbose=False)
    for logger in loggers:
        logger.finalize("success")
    return evaluation.result


def test_tensorboard_holds_scalars_pictures_and_the_table(result, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "board" / "version_0"))
    events.Reload()
    tags = events.Tags()
    assert events.Scalars("val/fgsm/robust_accuracy")[0].value == pytest.approx(result.attacks[0].robust_accuracy)
    for picture in result.pictures():
        (image,) = events.Images(f"val/attacks/{picture.name}")
        assert image.width > 200
        assert image.encoded_image_string.startswith(b"\x89PNG")
    text = events.Tensors("val/attacks/table_0/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"| {result.attacks[0].description} |" in text
    assert len(tags["tensors"]) == len(result.tables())


def test_the_csv_logger_gets_files_beside_its_metrics(result, tmp_path):
    media = tmp_path / "csv" / "version_0" / "media" / "val" / "attacks"
    pictures = {f"{picture.name}_000000.png" for picture in result.pictures()}
    assert pictures == {path.name for path in media.glob("*.png")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in media.glob("*.png"))
    with (media / "table_0_000000.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    table = result.tables()[0]
    assert rows[0] == table.columns
    assert len(rows) == 1 + len(table.rows)
    assert rows[2][0] == "fgsm"


def test_the_runs_folder_is_the_first_loggers(tmp_path):
    loggers = [CSVLogger(tmp_path, name="mine"), TensorBoardLogger(tmp_path, name="board")]
    assert run_folder(trainer(logger=loggers)) == tmp_path / "mine" / "version_0"
    assert run_folder(trainer(folder=tmp_path)) == tmp_path


def test_the_command_lines_folder_does_not_depend_on_the_logger(tmp_path):
    record = RunRecord(LightningArgumentParser(), config=None)
    assert run_folder(trainer(record, folder=tmp_path, logger=CSVLogger(tmp_path, name="mine"))) == tmp_path


def test_a_name_that_leads_elsewhere_does_not(model, tmp_path):
    name = "../../../outside"
    logger = CSVLogger(tmp_path / "run", name="csv")
    evaluation = AttackEvaluation(
        {name: FGSM(eps=0.06), "/outside": FGSM(eps=0.06)},
        eps_sweep=[0.06],
        sweep_samples=10,
        name=name,
        verdicts=str(tmp_path / "run" / "verdicts"),
    )
    runner = trainer(evaluation, folder=tmp_path / "run", logger=logger)
    runner.validate(model, DataLoader(images(COUNT), batch_size=8), verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"csv", "verdicts"}
    assert len(list((tmp_path / "run" / "csv" / "version_0" / "media").rglob("*.png"))) == len(
        evaluation.result.pictures()
    )
    assert len(list((tmp_path / "run" / "verdicts").glob("*/*/*.safetensors"))) > 0
