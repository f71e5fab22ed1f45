"""The zoo: train ``configs/zoo/*.yaml``, keep their weights in the package, measure them, write the page.

``python -m experiments.zoo --root data [NAME ...]``: resumable; a network that is in the zoo is not trained again.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.torch import load_file, save

from experiments.classifiers import train_once
from experiments.command import arguments, command
from experiments.origin import Origin, note
from experiments.page import Page, prose
from lightning_adv.files import replace_atomically, replace_folder
from lightning_adv.models import statistics_of
from lightning_adv.modules import load_classifier
from lightning_adv.reports.storage import read_results
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval

__all__ = ["main"]

CONFIGS = Path("configs/zoo")
ZOO = Path("lightning_adv/zoo")
POISONED = "mnist_backdoored"
ATTACKED_BY = {"mnist": "configs/evaluate/mnist_autoattack.yaml", "cifar10": "configs/evaluate/autoattack.yaml"}
"""What networks of a data set are measured by; a poisoned one is by what it was trained with."""
DATA = {"mnist": "MNIST", "cifar10": "CIFAR10"}
FEW = 250
"""Attacked images of CIFAR-10: AutoAttack takes two cores seconds for each."""
DIGITS = 6
"""Of a mean and a deviation: what float32 has of them."""
COLUMNS = ["weights", "backbone", "parameters", "figure", "of", "value", "95% interval"]


def main() -> None:
    """Train what is missing, measure what is not measured, write the page."""
    parser = arguments(__doc__, run="runs/zoo")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of configurations; default all")
    given = parser.parse_args()
    page = Page("experiments.zoo", "zoo", given.run, given=["--root", given.root])
    for name in given.names or [path.stem for path in sorted(CONFIGS.glob("*.yaml"))]:
        _make(name, given.root, Path(given.run) / name)
    measured = {path.parent.name: read_results(path) for path in sorted(ZOO.glob("*/results.json"))}
    for run in (each["run"] for each in measured.values()):
        note(Origin(run["commit"], run["dirty"], run["finished"], run["command"]))
    rows = [row for name, results in measured.items() for row in _rows(name, results)]
    table = Table("The networks", COLUMNS, rows, percent=("value",), note=prose(__file__, "The networks"))
    page.write(prose(__file__), [table], "MNIST and CIFAR-10 test images")


def _make(name: str, root: str, run: Path) -> None:
    """Train, keep and measure a network, as far as that was not done."""
    folder, config = ZOO / name, f"--config={CONFIGS / name}.yaml"
    at = f"--data{'.data' if name == POISONED else ''}.root={root}"
    train_once(folder / "config.json", run, config, at)
    if not (folder / "config.json").is_file():
        replace_folder(folder, lambda new: _export(run, new))
    if not (folder / "results.json").is_file():
        data = name.partition("_")[0]
        judged = (config,) if name == POISONED else (f"--config={ATTACKED_BY[data]}", f"--data={DATA[data]}")
        few = (f"--trainer.callbacks.max_samples={FEW}",) if data == "cifar10" else ()
        options = (f"--ckpt_path=zoo/{name}", *judged, at, *few, f"--run={run / 'evaluated'}")
        subprocess.run([sys.executable, "evaluate.py", *options], check=True)
        replace_atomically(folder / "results.json", (run / "evaluated" / "report" / "results.json").read_text())


def _export(run: Path, folder: Path) -> None:
    """A folder as timm keeps one: settings, and the weights of the network without its normalisation."""
    module = load_classifier(run / "checkpoints" / "last.ckpt")
    settings, statistics = module.hparams, statistics_of(module.backbone)
    replace_atomically(folder / "model.safetensors", save(module.backbone.net.state_dict()))
    said = {
        "architecture": settings["backbone"],
        "model_args": settings["backbone_options"] or {},
        "num_classes": module.num_classes,
        "pretrained_cfg": {
            "mean": [round(each, DIGITS) for each in statistics.mean],
            "std": [round(each, DIGITS) for each in statistics.std],
            "input_size": [settings["in_channels"], *settings["image_size"]],
        },
    }
    replace_atomically(folder / "config.json", f"{json.dumps(said, indent=2)}\n")


def _rows(name: str, results: Mapping) -> Iterator[list[Cell]]:
    """What was measured of a network, a figure a row."""
    backbone = json.loads((ZOO / name / "config.json").read_text())["architecture"]
    weights = load_file(ZOO / name / "model.safetensors")
    network: list[Cell] = [f"zoo/{name}", backbone, sum(each.numel() for each in weights.values())]
    for section in results["sections"]:
        for figure in section["key_figures"]:
            interval = percent_interval(tuple(figure["interval"]))
            yield [*network, figure["label"], figure["basis"], section["scalars"][figure["scalar"]], interval]


if __name__ == "__main__":
    command(main)
