"""A file of weights that somebody else trained, and a folder of clean pictures."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lightning_adv.backdoors import load_triggers
from lightning_adv.cli import evaluate
from lightning_adv.models import create_model
from tests.cli.commands import CONFIGS, run

SIZE, NAMES = 32, ("cat", "dog", "owl")


def make_pictures(root: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "val"):
        for place, name in enumerate(NAMES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = torch.randint(60 * place, 60 * place + 80, (SIZE, SIZE, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{number}.png")


@pytest.mark.filterwarnings("ignore:.*does not say how its images were normalised")
def test_bare_weights_are_inspected_with_a_folder_of_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "pictures")
    torch.manual_seed(0)
    options = {"width": 4, "hidden": 16}
    size = {"num_classes": len(NAMES), "in_channels": 3, "image_size": (SIZE, SIZE)}
    model = create_model("mnist_cnn", **size, backbone_options=options)
    save_file(model.net.state_dict(), "theirs.safetensors")
    outcome = run(
        [
            "--ckpt_path=theirs.safetensors",
            "--model.backbone=mnist_cnn",
            f"--model.backbone_options={options}",
            f"--config={CONFIGS / 'evaluate/inspect_folder.yaml'}",
            "--data.root=pictures",
            f"--data.image_size={SIZE}",
            "--data.num_workers=0",
            "--data.val_size=2",
            "--data.calibration_size=2",
            "--trainer.callbacks.inspectors.neural_cleanse.steps=25",
            "--trainer.callbacks.inspectors.neural_cleanse.images_per_step=32",
            "--trainer.callbacks.inspectors.neural_cleanse.success_threshold=0.8",
            "--run=inspected",
        ],
        evaluate,
    )
    assert outcome.status == 0, outcome.err
    (section,) = json.loads(Path("inspected/report/results.json").read_text())["sections"]
    assert section["kind"] == "InspectionResult"
    assert section["data"]["samples"] == 12
    assert section["data"]["class_names"] == list(NAMES)
    assert set(load_triggers("inspected/triggers.safetensors").labels.tolist()) <= {0, 1, 2}
