"""``--json``: one document for machines on stdout, what people read on stderr."""

import json
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from lightning_adv.cli import program
from lightning_adv.cli.configs import shipped_names
from tests.cli.commands import DEMO, TINY, run
from tests.processes import ROOT
from tests.processes import run as run_process

FEW = ("--trainer.callbacks.max_samples=6", "--trainer.callbacks.pictures=never")
FGSM = "{class_path: AttackEvaluation, init_args: {attacks: {fgsm: {class_path: FGSM, init_args: {eps: 0.1}}}}}"


def test_an_evaluation_is_one_document_that_names_its_page(trained):
    outcome = run(["evaluate", "--json", f"--ckpt_path={trained}/checkpoints/last.ckpt", *FEW], program)
    assert outcome.status == 0, outcome.err
    document = json.loads(outcome.out)
    page = Path(document.pop("report"))
    assert page.name == "index.html"
    assert document == json.loads((page.parent / "results.json").read_text())
    for said in ("note: ", "run folder: ", "Adversarial attacks (test)", "report: "):
        assert f"\n{said}" in f"\n{outcome.err}"


def test_without_a_report_there_is_one_for_the_document(trained):
    checkpoint = f"--ckpt_path={trained}/checkpoints/last.ckpt"
    outcome = run(["--json", "validate", checkpoint, f"--trainer.callbacks=[{FGSM}]", *FEW], program)
    assert outcome.status == 0, outcome.err
    assert [each["kind"] for each in json.loads(outcome.out)["sections"]] == ["RobustnessResult"]


def test_the_configuration_of_a_run_does_not_remember_it(trained):
    assert "json" not in (trained / "config.yaml").read_text()
    asked = run(["fit", "--config", DEMO, "--run=asked", "--json", *TINY], program)
    assert asked.status == 0, asked.err
    assert "json" not in Path("asked/config.yaml").read_text()
    assert json.loads(asked.out)["run"]["finished"]


def test_a_mistake_leaves_stdout_empty():
    outcome = run(["evaluate", "--json", "--ckpt_path=none.ckpt"], program)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1].startswith("error: there is no checkpoint none.ckpt")


class Runs:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("mark",)


def test_a_file_with_code_is_a_document_too():
    Path("evil.pth").write_bytes(pickle.dumps({"w": OrderedDict(), "n": Runs()}))
    outcome = run(["audit", "evil.pth", "--data=MNISTSubset", "--json"], program)
    assert outcome.status == 3
    assert [each["kind"] for each in json.loads(outcome.out)["sections"]] == ["FileResult"]


def test_lists_are_documents():
    assert list(json.loads(run(["configs", "--json"], program).out)) == shipped_names()
    kinds = json.loads(run(["list", "--json"], program).out)
    assert "PGD" in kinds["attacks"]
    attacks = json.loads(run(["list", "attacks", "--json"], program).out)
    assert list(attacks) == kinds["attacks"]
    assert "Madry" in attacks["PGD"]
    assert json.loads(run(["list", "models", "--json"], program).out) == kinds["models"]


@pytest.mark.slow
def test_a_process_writes_the_document_and_nothing_else(trained, tmp_path):
    line = [sys.executable, ROOT / "evaluate.py", f"--ckpt_path={trained}/checkpoints/last.ckpt", "--json", *FEW]
    done = run_process([*line, "--trainer.devices=2", "--trainer.accelerator=cpu"], tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout)["run"]["finished"]
    assert "report: " in done.stderr
