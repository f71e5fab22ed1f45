"""Every configuration in configs/purification/ builds what it says, without a network and without data."""

from pathlib import Path

import pytest
import torch

from lightning_adv.callbacks import PurificationEvaluation
from lightning_adv.modules import DiffusionModule, VQVAEModule
from lightning_adv.purifiers import JPEG, VQVAE, Diffusion, TotalVariation
from tests.cli.commands import CONFIGS, DEMO, Built

TRAINED = {"mnist_diffusion": DiffusionModule, "mnist_vqvae": VQVAEModule, "cifar10_vqvae": VQVAEModule}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", TRAINED)
def test_a_network_is_built_for_the_images_of_its_data_and_knows_where_to_go(name):
    cli = Built(["fit", "--config", CONFIGS / "purification" / f"{name}.yaml"])
    assert type(cli.model) is TRAINED[name]
    assert cli.model.hparams.in_channels == cli.datamodule.in_channels
    assert Path(cli.model.export) == Path("runs", name, "exported")


def test_the_evaluation_reads_the_networks_where_the_trainings_put_them():
    torch.manual_seed(0)
    small = {"channels": (8, 8), "in_channels": 1, "image_size": (28, 28)}
    VQVAEModule(**small).save_pretrained("runs/mnist_vqvae/exported")
    DiffusionModule(**small).save_pretrained("runs/mnist_diffusion/exported")
    cli = Built(["fit", "--config", DEMO, "--config", CONFIGS / "purification" / "evaluate_mnist.yaml"])
    (evaluation,) = (each for each in cli.trainer.callbacks if isinstance(each, PurificationEvaluation))
    assert [type(each) for each in evaluation.purifiers.values()] == [JPEG, TotalVariation, VQVAE, Diffusion]
    assert len(evaluation.threat_models) == 5
