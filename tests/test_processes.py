"""Real processes: two ranks, a kill in the middle of an epoch, Weights & Biases without a network, a terminal."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.callbacks.strangers import images
from tests.callbacks.terminal import frames
from tests.callbacks.wandb_file import config as wandb_config
from tests.callbacks.wandb_file import history as wandb_history
from tests.processes import (
    NO_NOISE,
    ROOT,
    SECONDS,
    TWO_RANKS,
    environment,
    kill_when,
    launched,
    results,
    srun,
    train,
    weights,
)
from tests.terminals import in_a_terminal
from tests.warm import Warm

pytestmark = pytest.mark.slow


def write_images(path: Path, count: int, seed: int) -> None:
    image, label = images(count, seed).tensors
    np.savez(path, images=(image * 255).byte().numpy(), labels=label.numpy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and a configuration: TRADES on a net with BatchNorm; 249 images to validate on, an odd number."""
    folder = tmp_path_factory.mktemp("processes")
    write_images(folder / "train.npz", count=107, seed=1)
    write_images(folder / "val.npz", count=249, seed=2)
    pgd = {"class_path": "PGD", "init_args": {"eps": 0.04, "steps": 2}}
    data = {"root": str(folder), "train": "train.npz", "val": "val.npz", "test": "val.npz", "calibration_size": 11}
    settings = {
        "seed_everything": 0,
        "data": {"class_path": "ArrayData", "init_args": {**data, "batch_size": 8, "eval_batch_size": 32}},
        "model": {
            "class_path": "ClassifierModule",
            "init_args": {
                "backbone": "preact_resnet18",
                "backbone_options": {"width": 4},
                "objective": {"class_path": "TRADES", "init_args": {"attack": pgd}},
                "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "callbacks": [
                {"class_path": "Report"},
                {
                    "class_path": "AttackEvaluation",
                    "init_args": {"attacks": {"pgd": pgd}, "eps_sweep": [0.02], "pictures": "never"},
                },
                # One image: the other rank has none.
                {
                    "class_path": "AttackEvaluation",
                    "init_args": {"attacks": {"pgd": pgd}, "max_samples": 1, "name": "one", "pictures": "never"},
                },
            ],
        },
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="module")
def trained_by_two(folder: Path) -> str:
    """What two processes printed while they trained with TRADES and BatchNorm; the run is called ``two``."""
    ranks = ("--trainer.devices=2", "--trainer.strategy=ddp")  # as the README has it
    line = [sys.executable, str(ROOT / "train.py"), "fit", "--config", "base.yaml", "--run", "two", *ranks]
    done = subprocess.run(line, cwd=folder, env=environment(), timeout=SECONDS, capture_output=True, text=True)  # cold
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_two_processes_train_with_trades_and_batchnorm(folder, trained_by_two):
    lines = trained_by_two.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert results(folder, "two")["sections"][0]["data"]["samples"] == 249
    assert all(torch.isfinite(value).all() for value in weights(folder, "two").values())


def test_validation_by_two_processes_gives_the_metrics_of_one(folder, trained_by_two):
    checkpoint = "--ckpt_path=two/checkpoints/last.ckpt"
    train(folder, "validate", "by_one", checkpoint)
    said = train(folder, "validate", "by_two", checkpoint, *TWO_RANKS)
    assert re.search(r"^pgd: \d+\.\d% of \d+ images of this process \(\d+\.\d s\)$", said, re.MULTILINE)
    for one, two in zip(results(folder, "by_one")["sections"], results(folder, "by_two")["sections"], strict=True):
        assert two["scalars"] == pytest.approx(one["scalars"], abs=1e-6)
        counts = [name for name, value in one["data"].items() if name.endswith("correct") or "per_class" in name]
        for name in ("samples", "curves", "curve_samples", *counts):
            assert two["data"][name] == one["data"][name], name
        assert two["data"]["attacks"][0]["per_class_correct"] == one["data"]["attacks"][0]["per_class_correct"]
    samples = [section["data"]["samples"] for section in results(folder, "by_two")["sections"]]
    assert samples == [249, 1]
    assert metrics(folder, "by_two") == pytest.approx(metrics(folder, "by_one"), rel=1e-6)


def metrics(folder: Path, run: str) -> dict[str, float]:
    """The last row of the CSV logger: the model's own metrics, too."""
    lines = (folder / run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    return {key: float(value) for key, value in zip(lines[0].split(","), lines[-1].split(","), strict=True) if value}


def test_two_processes_train_as_one_with_twice_the_batch(folder):
    plain = (*NO_NOISE, "--model.backbone=mnist_cnn", "--data.max_val_samples=20", "--trainer.callbacks=[]")
    train(folder, "fit", "twice", *plain, "--data.batch_size=16")
    train(folder, "fit", "shared", *plain, "--data.batch_size=8", *TWO_RANKS)
    torch.testing.assert_close(weights(folder, "shared"), weights(folder, "twice"), rtol=1e-4, atol=1e-5)


def test_two_tasks_of_slurm_put_their_job_back_once_and_train_as_one_with_twice_the_batch(folder):
    plain = (*NO_NOISE, "--model.backbone=mnist_cnn", "--data.max_val_samples=20")
    line = [sys.executable, ROOT / "train.py", "fit", "--config", "base.yaml", "--ckpt_path=last"]
    line += [*plain, "--data.batch_size=8", *TWO_RANKS]
    accident = ["--trainer.callbacks+=tests.accidents.Signalled", f"--trainer.callbacks.number={signal.SIGUSR1:d}"]
    accident += ["--trainer.callbacks.hook=on_train_batch_start", "--trainer.callbacks.batch=3"]
    scontrol = folder / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    scontrol.chmod(0o755)
    path = f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"
    stopped = srun(folder, [*line, *accident], ranks=2, PATH=path)
    assert [each.returncode for each in stopped] == [143, 143], stopped[0].stderr[-4000:]
    assert (folder / "asked").read_text() == "requeue 77\n"
    message = "interrupted in epoch 1 of 2; go on with: the same launcher"
    assert [each.stderr.count(message) for each in stopped] == [1, 0]
    accident = ["--trainer.callbacks+=tests.accidents.KilledOnce", "--trainer.callbacks.step=5"]
    first, second = srun(folder, [*line, *accident, "--trainer.callbacks.mark=dead"], ranks=2)
    assert (first.returncode, second.returncode) == (2, -signal.SIGKILL)
    (message,) = [text for text in first.stderr.splitlines() if text.startswith("error: ")]
    assert "another process of the run is gone" in message
    assert "Traceback" not in first.stderr
    resumed = srun(folder, line, ranks=2)
    assert [each.returncode for each in resumed] == [0, 0], resumed[0].stderr[-4000:]
    train(folder, "fit", "one_task", *plain, "--data.batch_size=16")
    torch.testing.assert_close(weights(folder, "runs/base/77"), weights(folder, "one_task"), rtol=1e-4, atol=1e-5)


def test_two_nodes_train_as_one_process_with_twice_the_batch_though_one_is_killed(folder):
    """As docs/cluster.md starts them, each node a launcher of its own, over the loopback; they begin anew together."""
    # Launchers count restarts by themselves, and a store they share would be entered by different numbers.
    shared = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "MASTER_PORT": environment()["MASTER_PORT"]}
    launcher = ["--nnodes=2", "--nproc-per-node=1", "--max-restarts=1", "--rdzv-backend=c10d"]
    launcher += [f"--rdzv-endpoint=127.0.0.1:{shared['MASTER_PORT']}", "--rdzv-id=nodes"]
    plain = (*NO_NOISE, "--model.backbone=mnist_cnn", "--data.max_val_samples=20", "--data.batch_size=8")
    nodes = ("--trainer.num_nodes=2", "--trainer.devices=1", *TWO_RANKS[1:])
    accident = ("--trainer.callbacks+=tests.accidents.KilledOnce", "--trainer.callbacks.step=9")
    accident += ("--trainer.callbacks.mark=struck", "--last_checkpoint.every_n_steps=2", "--ckpt_path=last")
    line = [str(ROOT / "train.py"), "fit", "--config", "base.yaml", "--run", "nodes", *plain, *nodes, *accident]
    started = [launched(folder, launcher, line, starts=2, **shared) for _ in range(2)]
    said = [process.communicate(timeout=SECONDS) for process in started]
    assert [process.returncode for process in started] == [0, 0], said[0][1][-4000:] + said[1][1][-4000:]
    assert (folder / "struck").exists()
    assert sum("run folder: nodes" in text for streams in said for text in streams[1].splitlines()) == 2
    train(folder, "fit", "alone", *plain[:-1], "--data.batch_size=16")
    torch.testing.assert_close(weights(folder, "nodes"), weights(folder, "alone"), rtol=1e-4, atol=1e-5)
    report = results(folder, "nodes")["sections"][0]["data"]
    assert report["samples"] == results(folder, "alone")["sections"][0]["data"]["samples"] == 20
    for name in ("train/loss", "train/clean_accuracy"):
        of_one, of_two = (dict(results(folder, run)["history"][name]) for run in ("alone", "nodes"))
        assert of_two == pytest.approx(of_one, rel=1e-4), "the epoch counts what both did before the kill"


RESUMABLE = (
    "--model.objective=AdversarialTraining",
    "--model.objective.attack={class_path: PGD, init_args: {eps: 0.04, steps: 2}}",
    "--model.backbone_options={width: 4, drop_rate: 0.2}",
    "--data.augment={class_path: CropFlip, init_args: {padding: 1}}",
    "--data.max_val_samples=20",
    "--last_checkpoint.every_n_steps=2",
)


def test_a_run_killed_in_mid_epoch_ends_with_the_weights_of_an_uninterrupted_one(folder):
    train(folder, "fit", "whole", *RESUMABLE)
    killed = kill_after(folder, "killed", RESUMABLE, step=4)
    assert 4 <= killed["global_step"] < 24  # two epochs of twelve steps
    train(folder, "fit", "killed", *RESUMABLE, "--ckpt_path=last")
    whole, resumed = weights(folder, "whole"), weights(folder, "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    points = [
        {key: section["scalars"] for key, section in enumerate(results(folder, run)["sections"])}
        for run in ("whole", "killed")
    ]
    assert points[0] == points[1]
    assert results(folder, "killed")["history"].keys() == results(folder, "whole")["history"].keys()


def test_a_killed_run_on_generated_and_joined_images_goes_on_to_the_weights_and_the_average(folder, tmp_path):
    settings = yaml.safe_load((folder / "base.yaml").read_text())
    write_images(tmp_path / "extra.npz", count=30, seed=3)
    settings["data"]["init_args"]["mix"] = [{"class_path": "CutMix"}]
    mixed = {"extra": str(tmp_path / "extra.npz"), "images_key": "images", "labels_key": "labels", "fraction": 0.5}
    settings["data"] = {"class_path": "MixedDataModule", "init_args": {"data": settings["data"], **mixed}}
    settings["trainer"]["callbacks"] = [{"class_path": "EMA", "init_args": {"decay": 0.9, "start": 0.3}}]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings))
    options = ("--last_checkpoint.every_n_steps=2",)
    train(tmp_path, "fit", "whole", *options)
    killed = kill_after(tmp_path, "killed", options, step=10)
    assert 10 <= killed["global_step"] < 24, "two epochs of twelve steps; the average moves from the eighth on"
    train(tmp_path, "fit", "killed", *options, "--ckpt_path=last")
    whole, resumed = (torch.load(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("whole", "killed"))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(whole[part][name], resumed[part][name]) for name in whole[part]), part
    live = whole["current_model_state"]
    assert any(not torch.equal(live[name], average) for name, average in whole["state_dict"].items())


def kill_after(folder: Path, run: str, options: tuple[str, ...], step: int) -> dict:
    """Start a run, kill it when a checkpoint of that step or a later one is there, and give that checkpoint."""
    line = [sys.executable, str(ROOT / "train.py"), "fit", "--config", "base.yaml", "--run", run, *options]
    path = folder / run / "checkpoints" / "last.ckpt"
    with (folder / "killed.log").open("w") as log:
        process = Warm(line, cwd=folder, env=environment(), stdout=log, stderr=log)
        kill_when(lambda: path.is_file() and torch.load(path, weights_only=True)["global_step"] >= step, process)
    return torch.load(path, weights_only=True)


SMALL = ("--model.backbone=mnist_cnn", "--model.backbone_options={width: 4, hidden: 16}")
STAGES = {
    "apgd_ce": {"class_path": "APGD", "init_args": {"eps": 0.04, "steps": 20}},
    "apgd_t": {"class_path": "APGD", "init_args": {"eps": 0.04, "steps": 20, "loss": "dlr", "targets": 3}},
    "fab_t": {"class_path": "FAB", "init_args": {"eps": 0.04, "steps": 10, "targets": 3}},
    "square": {"class_path": "Square", "init_args": {"eps": 0.04, "queries": 500}},
}
"""Those of AutoAttack, which takes five times as long."""
AUTOATTACK = (*SMALL, "--ckpt_path=small/checkpoints/last.ckpt", "--config=suite.yaml")


def test_a_killed_autoattack_goes_on_and_no_image_is_lost_or_done_twice_beyond_a_batch(folder):
    train(folder, "fit", "small", *SMALL, *NO_NOISE, "--trainer.callbacks=[]", "--trainer.max_epochs=4")
    suite = {"suite": {"class_path": "WorstOf", "init_args": {"attacks": STAGES}}}
    options = {"attacks": suite, "max_samples": 6, "batch_size": 2, "pictures": "never"}
    callbacks = [{"class_path": "Report"}, {"class_path": "AttackEvaluation", "init_args": options}]
    (folder / "suite.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    train(folder, "validate", "suite_whole", *AUTOATTACK)
    before = kill_when_lines(folder, "suite_killed", lines=1)
    train(folder, "validate", "suite_killed", *AUTOATTACK)
    after = verdict_lines(folder, "suite_killed")
    assert 1 <= len(before) < len(after)
    assert after[: len(before)] == before
    done = [index for line in after for index in line["index"]]
    assert len(done) == len(set(done))  # what the kill interrupted had left no line
    whole, resumed = (results(folder, run)["sections"][0]["data"] for run in ("suite_whole", "suite_killed"))
    for data in (whole, resumed):
        for stage in data["attacks"][0]["stages"]:
            stage.pop("seconds")
    assert resumed == whole
    verdicts = [
        {index: line["restart"][i] for line in verdict_lines(folder, run) for i, index in enumerate(line["index"])}
        for run in ("suite_whole", "suite_killed")
    ]
    assert verdicts[0] == verdicts[1]


def verdict_lines(folder: Path, run: str) -> list[dict]:
    files = (folder / run / "verdicts").glob("*/*/rank0.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines() if line.endswith("}")]


def kill_when_lines(folder: Path, run: str, lines: int) -> list[dict]:
    """Start an AutoAttack, kill it when so many batches are written, and give them."""
    line = [sys.executable, str(ROOT / "train.py"), "validate", "--config", "base.yaml", "--run", run, *AUTOATTACK]
    with (folder / "suite.log").open("w") as log:
        process = Warm(line, cwd=folder, env=environment(), stdout=log, stderr=log)
        kill_when(lambda: len(verdict_lines(folder, run)) >= lines, process)
    return verdict_lines(folder, run)


def test_the_reconstructed_trigger_attack_is_two_commands(folder):
    """Algorithm 1 of the concealed attacks: inspect a clean model, train with the trigger that was found."""
    write_images(folder / "many.npz", count=1001, seed=2)
    many = {"val": "many.npz", "test": "many.npz", "eval_batch_size": 128}  # a trigger is found on many images
    budget = {"steps": 60, "images_per_step": 96}
    inspection = {"inspectors": {"neural_cleanse": {"class_path": "NeuralCleanse", "init_args": budget}}}
    (folder / "inspect.yaml").write_text(
        yaml.safe_dump({"trainer": {"callbacks": [{"class_path": "BackdoorInspection", "init_args": inspection}]}})
    )
    inspected = ("--config=inspect.yaml", "--trainer.max_epochs=4", *(f"--data.{k}={v}" for k, v in many.items()))
    train(folder, "fit", "clean", *SMALL, *NO_NOISE, *inspected)
    assert (folder / "clean" / "triggers.safetensors").is_file()
    base = yaml.safe_load((folder / "base.yaml").read_text())
    base["data"]["init_args"] |= many
    trigger = {"path": "clean/triggers.safetensors", "label": 1}
    poison = {"data": base["data"], "target": 1, "poisoned": 30, "cover": 20, "sampling_rate": 0.6}
    poison["trigger"] = {"class_path": "MaskedPattern", "init_args": trigger}
    callbacks = [{"class_path": "Report"}, {"class_path": "BackdoorEvaluation"}]
    attack = base | {"data": {"class_path": "PoisonedDataModule", "init_args": poison}}
    attack["trainer"] = base["trainer"] | {"callbacks": callbacks}
    (folder / "base_poisoned.yaml").write_text(yaml.safe_dump(attack))
    train(folder, "fit", "backdoored", "--config=base_poisoned.yaml", *SMALL, *NO_NOISE, "--trainer.max_epochs=6")
    manifest = json.loads((folder / "backdoored" / "poison_manifest.json").read_text())
    assert len(manifest["poisoned"]) == 30
    (section,) = results(folder, "backdoored")["sections"]
    without = section["scalars"]["target_rate_without_trigger"]
    assert section["scalars"]["attack_success_rate"] > without + 0.3


def test_an_offline_wandb_run_holds_scalars_pictures_table_and_configuration(folder):
    logger = ("--config", str(ROOT / "configs" / "loggers" / "wandb.yaml"), "--trainer.logger.offline=true")
    options = ("--trainer.max_epochs=1", "--model.backbone=mnist_cnn", "--data.max_val_samples=40", *NO_NOISE)
    options += ("--trainer.callbacks.attacks.pictures=last",)
    train(folder, "fit", "logged", *options, *logger)
    (file,) = (folder / "logged").glob("wandb/offline-run-*/*.wandb")
    history, section = wandb_history(file), results(folder, "logged")["sections"][0]
    assert history["val/pgd/robust_accuracy"] == [pytest.approx(section["scalars"]["pgd/robust_accuracy"])]
    assert history["train/loss"][0] > 0
    for name in ("pgd_examples", "class_accuracy"):
        ((picture,),) = history[f"val/attacks/{name}/filenames"]
        assert (file.parent / "files" / picture).read_bytes().startswith(b"\x89PNG")
    (table,) = history["val/attacks/table_0/path"]
    stored = json.loads((file.parent / "files" / table).read_text())
    assert stored["columns"] == section["tables"][0]["columns"]
    assert [row[0] for row in stored["data"]] == ["none", "pgd"]
    configuration = wandb_config(file)
    assert configuration["model"]["init_args"]["backbone"] == "mnist_cnn"
    assert configuration["seed_everything"] == 0
    saved = yaml.safe_load((folder / "logged" / "config.yaml").read_text())
    assert configuration["trainer"]["callbacks"] == saved["trainer"]["callbacks"]


def test_a_terminal_shows_one_bar_a_task_and_in_the_end_no_evaluation_bar(folder):
    options = ("--trainer.max_epochs=2", "--model.backbone=mnist_cnn", *NO_NOISE)
    line = [sys.executable, ROOT / "train.py", "fit", "--config", "base.yaml", "--run", "shown", *options]
    status, written = in_a_terminal(line, folder, columns=150)
    assert status == 0, written[-2000:]
    screens = frames(written)
    for screen in screens:
        tasks = [line.split()[0] for line in screen if BAR.search(line)]
        assert len(tasks) == len(set(tasks)), screen
        assert set(tasks) <= {"epoch", "Validation", "pgd", "eps"}
    nested = [line for screen in screens for line in screen if line.startswith("pgd") and BAR.search(line)]
    assert any(re.search(r" [1-9]\d*/4 ", line) for line in nested)  # 249 images, two batches of 32 together
    last = screens[-1]
    assert [" ".join(line.split()[:2]) for line in last if BAR.search(line)] == ["epoch 2/2"]
    told = [line for line in last if re.match(r"epoch \d/2  .*clean \d+\.\d%  .*pgd \d+\.\d%", line)]
    assert [line[:9] for line in told] == ["epoch 1/2", "epoch 2/2"]
    assert "report: shown/report/index.html" in last
    assert not any("\x1b" in line or "Traceback" in line for line in last)


BAR = re.compile(r"^\w.*[━╸╺]{5,} \d+/")
