"""A robust MNIST model on two cores: train ``configs/mnist_pgd.yaml``, attack all test images, write the page.

``python -m experiments.mnist_pgd --root data``: resumable; a finished training is not repeated.
"""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

from experiments.classifiers import train_once
from experiments.command import arguments, command
from experiments.page import prose, write_page
from lightning_adv.reports.run import Machine, RunInfo
from lightning_adv.reports.storage import read_results
from lightning_adv.results.result import Table
from lightning_adv.results.shares import percent_interval

__all__ = ["main"]

CONFIG = "configs/mnist_pgd.yaml"
EVALUATION = "configs/evaluate/mnist.yaml"


def main() -> None:
    """Train, evaluate, write."""
    given = arguments(__doc__, run="runs/mnist_pgd").parse_args()
    run = Path(given.run)
    data = f"--data.root={given.root}"
    train_once(run / "report" / "results.json", run, f"--config={CONFIG}", data)
    evaluated = run / "evaluated"
    checkpoint = run / "checkpoints" / "last.ckpt"
    if not (evaluated / "report" / "results.json").is_file():
        options = (f"--ckpt_path={checkpoint}", f"--config={EVALUATION}", data, f"--run={evaluated}")
        subprocess.run([sys.executable, "evaluate.py", *options], check=True)
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
        note=prose(__file__, "Accuracy on all test images", minutes=minutes),
    )
    text = prose(__file__, config=CONFIG, evaluation=EVALUATION)
    facts = {"command": "python -m experiments.mnist_pgd --root data", "finished": evaluation["run"]["finished"]}
    info = RunInfo(**{**training, **facts, "machine": Machine(**training["machine"])})
    print(write_page("mnist_pgd", text, [table], info, "MNIST, 54,000 train, 10,000 test"))


if __name__ == "__main__":
    command(main)
