"""A robust MNIST model on two cores: train ``configs/mnist_pgd.yaml``, attack all test images, write the page.

``python -m experiments.mnist_pgd --root data``: resumable; a finished training is not repeated.
"""

import argparse
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from experiments.page import write_page
from lightning_adv.reports.run import Machine, RunInfo
from lightning_adv.reports.storage import read_results
from lightning_adv.results.result import Table
from lightning_adv.results.shares import percent_interval

CONFIG = "configs/mnist_pgd.yaml"
EVALUATION = "configs/evaluate/mnist.yaml"


def main() -> None:
    """Train, evaluate, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data", help="folder with MNIST/raw")
    arguments.add_argument("--run", default="runs/mnist_pgd", help="folder of the training run")
    given = arguments.parse_args()
    run = Path(given.run)
    data = f"--data.root={given.root}"
    if not (run / "report" / "results.json").is_file():
        _call("train.py", "fit", "--config", CONFIG, data, f"--run={run}", "--ckpt_path=last")
    evaluated = run / "evaluated"
    checkpoint = run / "checkpoints" / "last.ckpt"
    if not (evaluated / "report" / "results.json").is_file():
        _call("evaluate.py", f"--ckpt_path={checkpoint}", "--config", EVALUATION, data, f"--run={evaluated}")
    training = read_results(run / "report" / "results.json")["run"]
    evaluation = read_results(evaluated / "report" / "results.json")
    measured = evaluation["sections"][0]["data"]
    began, ended = (datetime.fromisoformat(training[key]) for key in ("started", "finished"))
    minutes = (ended - began).total_seconds() / 60
    rows = [["none", "", measured["clean_correct"] / measured["samples"], percent_interval(measured["clean_interval"])]]
    for attack in measured["attacks"]:
        rows.append(
            [attack["name"], attack["description"], attack["robust_accuracy"], percent_interval(attack["interval"])]
        )
    worst = measured["worst_case_correct"] / measured["samples"]
    rows.append(["worst case", "correct under all", worst, percent_interval(measured["worst_case_interval"])])
    table = Table(
        f"Accuracy on all {measured['samples']:,} test images",
        ["attack", "settings", "accuracy", "95% interval"],
        rows,
        percent=("accuracy",),
        note=f"Training took {minutes:.1f} minutes, the evaluations after every epoch included.",
    )
    text = f"PGD adversarial training with `{CONFIG}`, then `evaluate.py` with `{EVALUATION}` on the checkpoint."
    facts = {"command": "python -m experiments.mnist_pgd --root data", "finished": evaluation["run"]["finished"]}
    info = RunInfo(**{**training, **facts, "machine": Machine(**training["machine"])})
    print(write_page("mnist_pgd", "MNIST at eps 0.3 (Linf)", text, [table], info, "MNIST, 54,000 train, 10,000 test"))


def _call(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=True)


if __name__ == "__main__":
    main()
