import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from lightning_adv.cli import entry
from lightning_adv.cli.runs import VARIABLE, choose_run_folder, leave_run_folder
from lightning_adv.errors import InputError
from tests import processes
from tests.cli.commands import DEMO, QUICK, ROOT, TINY, run

FIT = ["fit", "--config", DEMO, *TINY]


def finished_run(folder: str) -> Path:
    checkpoint = Path(folder) / "checkpoints/last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    return Path(folder)


def test_a_run_without_a_name_goes_into_a_folder_of_its_configuration_and_time():
    outcome = run(FIT)
    assert outcome.status == 0, outcome.err
    (folder,) = Path("runs/demo").iterdir()
    assert f"run folder: {folder}\n" in outcome.err
    for left in ("config.yaml", "checkpoints/last.ckpt", "report/index.html", "report/results.json"):
        assert (folder / left).is_file(), left
    assert list(folder.glob("events.out.tfevents.*"))
    assert list(folder.glob("csv/*/metrics.csv"))
    assert [path.name for path in Path().iterdir()] == ["runs"]


@pytest.mark.parametrize("name", ["evaluate/..", "evaluate/../../x", "/x", "..", ""])
def test_a_name_leads_to_no_folder_outside_of_runs(name):
    try:
        folder = choose_run_folder(None, name, resume=False)
        assert folder.is_dir()
        assert folder.resolve().is_relative_to(Path("runs").resolve())
    finally:
        leave_run_folder()


@pytest.mark.parametrize(
    ("path", "name"),
    [("checkpoints/last.ckpt", "here"), ("../here/checkpoints/last.ckpt", "here"), ("../x.safetensors", "x")],
)
def test_an_evaluation_is_called_after_the_run_wherever_its_checkpoint_is_seen_from(path, name, monkeypatch):
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert entry._origin(Path(path)) == name


def test_a_named_folder_that_holds_a_run_is_not_overwritten(trained):
    before = (trained / "config.yaml").stat().st_mtime_ns
    outcome = run([*FIT, "--run", trained])
    assert outcome.status == 2
    assert outcome.err == (
        f"error: {trained} holds a run already: resume it by --ckpt_path last, or name another folder by --run\n"
    )
    assert (trained / "config.yaml").stat().st_mtime_ns == before


def test_last_goes_on_with_the_newest_run_of_the_configuration():
    assert run(FIT).status == 0
    outcome = run([*FIT, "--ckpt_path=last", "--trainer.max_epochs=2"])
    assert outcome.status == 0, outcome.err
    (folder,) = Path("runs/demo").iterdir()
    assert "epoch 2/2" in outcome.out
    assert "epoch 1/2" not in outcome.out
    assert "ckpt_path: null" in (folder / "config.yaml").read_text()


def test_last_starts_from_the_beginning_where_nothing_was_run():
    outcome = run([*FIT, "--ckpt_path=last", "--run=fresh"])
    assert outcome.status == 0, outcome.err
    assert "no checkpoint in fresh yet: starting from the beginning\n" in outcome.err
    assert "epoch 1/1" in outcome.out
    assert Path("fresh/checkpoints/last.ckpt").is_file()


def test_last_without_a_configuration_is_answered_with_that_of_the_newest_run():
    assert run(FIT).status == 0
    outcome = run(["fit", "--ckpt_path=last"])
    assert outcome.status == 2
    hint = outcome.err.removeprefix("error: a run goes on with the configuration that it has: python train.py ")
    resumed = run([*shlex.split(hint), "--trainer.max_epochs=2"])
    assert resumed.status == 0, resumed.err
    assert "epoch 2/2" in resumed.out
    assert "epoch 1/2" not in resumed.out


def test_testing_the_last_checkpoint_of_a_run_leaves_its_report_alone(trained):
    report = (trained / "report/index.html").read_text()
    outcome = run(["test", "--config", DEMO, *TINY, "--run", trained, "--ckpt_path=last"])
    assert outcome.status == 0, outcome.err
    assert (trained / "test/report/index.html").is_file()
    assert (trained / "report/index.html").read_text() == report


def test_there_is_nothing_to_test_without_a_last_checkpoint():
    outcome = run(["test", "--config", DEMO, *QUICK, "--run=nowhere", "--ckpt_path=last"])
    assert outcome.status == 2
    assert outcome.err == "error: nowhere holds no checkpoints/last.ckpt: there is nothing to test\n"


def test_two_runs_of_one_process_have_two_folders_and_leave_no_variable_behind():
    for _ in range(2):
        choose_run_folder(None, "demo", resume=False).joinpath("file").touch()
        assert VARIABLE in os.environ
        leave_run_folder()
        assert VARIABLE not in os.environ
    assert len(list(Path("runs/demo").iterdir())) == 2


def test_a_run_that_left_nothing_leaves_no_folder():
    choose_run_folder(None, "demo", resume=False)
    leave_run_folder()
    assert not Path("runs/demo").exists()


def test_a_rank_that_lightning_launches_goes_where_the_first_one_went(monkeypatch):
    monkeypatch.setenv(VARIABLE, "runs/demo/then")
    assert choose_run_folder("other", "demo", resume=False) == Path("runs/demo/then")


@pytest.mark.parametrize("variable", [{"RANK": "1"}, {"SLURM_PROCID": "1"}], ids=["torchrun", "srun"])
def test_only_the_first_rank_refuses_a_folder_as_the_others_may_come_after_its_first_checkpoint(variable, monkeypatch):
    folder = finished_run("runs/x")
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    assert choose_run_folder(str(folder), "demo", resume=False) == folder


def test_processes_of_torchrun_need_a_common_folder(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InputError, match=r"-- train\.py COMMAND --run FOLDER"):
        choose_run_folder(None, "demo", resume=False)


def test_processes_of_a_slurm_job_share_the_folder_of_the_job_which_is_not_overwritten(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert choose_run_folder(None, "demo", resume=False) == Path("runs/demo/77")
    monkeypatch.delenv(VARIABLE)
    finished_run("runs/demo/77")
    with pytest.raises(InputError, match="holds a run already"):
        choose_run_folder(None, "demo", resume=False)


def test_the_newest_of_several_runs_is_resumed():
    for name in ("b", "a"):  # a is newer
        finished_run(f"runs/demo/{name}")
        os.utime(f"runs/demo/{name}/checkpoints/last.ckpt", (1 if name == "b" else 2,) * 2)
    assert choose_run_folder(None, "demo", resume=True) == Path("runs/demo/a")


@pytest.mark.slow
def test_the_script_itself_exits_with_status_2_and_one_line():
    command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", DEMO, "--trainer.max_epoch=3"]
    process = processes.run(command, Path.cwd())
    assert process.returncode == 2
    assert process.stderr == "error: there is no option --trainer.max_epoch; did you mean --trainer.max_epochs?\n"
    assert process.stdout == ""


def test_repeating_a_finished_run_writes_the_same_report_again(trained):
    shutil.copytree(trained, "finished")
    written = {path: path.read_bytes() for path in Path("finished/report").rglob("*") if path.is_file()}
    assert len(written) > 3, "page, results and pictures"
    for each in (Path("finished/report/index.html"), *Path("finished/report/pictures").iterdir()):
        each.unlink()  # a kill between the last checkpoint and the report
    outcome = run([*FIT, "--ckpt_path=last", "--run=finished"])
    assert outcome.status == 0, outcome.err
    assert "epoch 1/1" not in outcome.out
    assert {path: path.read_bytes() for path in Path("finished/report").rglob("*") if path.is_file()} == written


def test_a_command_that_is_refused_leaves_the_configuration_of_the_run_as_it_was(trained):
    shutil.copytree(trained, "mine")
    before = Path("mine/config.yaml").read_bytes()
    outcome = run([*FIT, "--ckpt_path=last", "--run=mine", "--model.backbone_options={width: 8}"])
    assert (outcome.status, "have another shape" in outcome.err) == (2, True)
    assert Path("mine/config.yaml").read_bytes() == before
    assert not Path("mine/config_1.yaml").exists()


def test_a_run_that_goes_on_otherwise_keeps_the_configuration_that_it_began_with(trained):
    shutil.copytree(trained, "mine")
    before = Path("mine/config.yaml").read_bytes()
    for epochs in ("2", "2", "3"):  # the same command leaves nothing more
        assert run([*FIT, "--ckpt_path=last", "--run=mine", f"--trainer.max_epochs={epochs}"]).status == 0
    kept = [Path(f"mine/config{number}.yaml").read_text() for number in ("_1", "_2", "")]
    assert kept[0].encode() == before
    assert [yaml.safe_load(text)["trainer"]["max_epochs"] for text in kept] == [1, 2, 3]
    assert not Path("mine/config_3.yaml").exists()


def test_a_second_evaluation_in_a_folder_keeps_the_configuration_of_the_first(trained):
    line = ["test", "--config", DEMO, *TINY, "--ckpt_path", trained / "checkpoints/last.ckpt", "--run=audit"]
    for samples in (6, 5):
        assert run([*line, f"--trainer.callbacks.max_samples={samples}"]).status == 0
    kept = [yaml.safe_load(Path(f"audit/config{number}.yaml").read_text()) for number in ("_1", "")]
    assert [each["trainer"]["callbacks"][-1]["init_args"]["max_samples"] for each in kept] == [6, 5]
