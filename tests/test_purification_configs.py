"""Every configuration in configs/purification/ builds what it says, without a network and without data."""

from pathlib import Path

import pytest
import torch

from lightning_adv.callbacks import PurificationEvaluation
from lightning_adv.data import CIFAR10, CIFAR100, MNIST, PurifiedDataModule
from lightning_adv.modules import CaptionerModule, DiffusionModule, LatentDiffusionModule, VQVAEModule
from lightning_adv.purifiers import JPEG, VQVAE, Captions, Diffusion, LanguageGuidedDiffusion, TotalVariation
from tests.cli.commands import CONFIGS, DEMO, Built

TRAINED = {
    "mnist_diffusion": DiffusionModule,
    "mnist_vqvae": VQVAEModule,
    "cifar10_vqvae": VQVAEModule,
    "mnist_latent_diffusion": LatentDiffusionModule,
    "mnist_captioner": CaptionerModule,
}


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


def write_published(image_size: tuple[int, int] = (32, 32)) -> None:
    """Small networks where the hub's would be looked for: a folder comes before a name."""
    pictures = {"class_names": ["cat", "dog"], "in_channels": 3, "image_size": image_size}
    small = {"autoencoder_channels": (8, 8, 8, 8), "channels": (8,), "text_width": 8}
    LatentDiffusionModule(**small, **pictures).save_pretrained("CompVis/stable-diffusion-v1-4")
    CaptionerModule(width=8, layers=1, **pictures).save_pretrained("Salesforce/blip-image-captioning-base")


@pytest.mark.parametrize("classes", [10, 100])
def test_fine_tuning_on_what_published_networks_purify_is_the_papers(classes):
    write_published()
    cli = Built(["fit", "--config", CONFIGS / "purification" / f"cifar{classes}_lgap_finetune.yaml"])
    purifier = cli.datamodule.purifier
    assert type(cli.datamodule.data) is {10: CIFAR10, 100: CIFAR100}[classes]
    assert (purifier.strength, purifier.steps, purifier.guidance, purifier.size) == (0.5, 25, 5.0, 384)
    assert cli.model.hparams.num_classes == classes
    optimizer = cli.model.configure_optimizers()["optimizer"]
    assert (type(optimizer), optimizer.defaults["lr"], cli.trainer.max_epochs) == (torch.optim.Adam, 1e-3, 15)


TABLES = {
    "cifar10": (0.5, [(["pgd40"], ["blind", "bpda", "bpda_eot"], 8 / 255)]),
    "cifar100": (0.5, [(["pgd40"], ["blind"], 8 / 255)]),
    "imagenet": (0.1, [(["autoattack", "pgd10"], ["blind"], 4 / 255), (["pgd40"], ["bpda"], 4 / 255)]),
}
"""t*, and of each evaluation its attacks, what they know, and eps."""


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_lgap_are_a_configuration_each(name):
    write_published()
    Path("data/imagenet/val/n01440764").mkdir(parents=True)
    cli = Built(["test", "--config", DEMO, "--config", CONFIGS / "purification" / f"evaluate_{name}_lgap.yaml"])
    strength, expected = TABLES[name]
    evaluations = [each for each in cli.trainer.callbacks if isinstance(each, PurificationEvaluation)]
    for each, (attacks, threats, eps) in zip(evaluations, expected, strict=True):
        purifier = each.purifiers["lgap"]
        assert type(purifier.prompts) is Captions
        assert (purifier.strength, purifier.steps) == (strength, round(50 * strength))
        assert (list(each.attacks), [str(threat) for threat in each.threat_models]) == (attacks, threats)
        assert {attack.eps for attack in each.attacks.values()} == {eps}


def test_fine_tuning_reads_what_the_trainings_export_and_follows_the_paper():
    digits = {"class_names": [str(k) for k in range(10)], "in_channels": 1, "image_size": (28, 28)}
    small = {"autoencoder_channels": (8, 8, 8), "channels": (8,), "text_width": 8}
    LatentDiffusionModule(**small, **digits).save_pretrained("runs/mnist_latent_diffusion/exported")
    CaptionerModule(width=8, layers=1, **digits).save_pretrained("runs/mnist_captioner/exported")
    cli = Built(["fit", "--config", CONFIGS / "purification" / "mnist_lgap_finetune.yaml"])
    assert type(cli.datamodule) is PurifiedDataModule
    assert type(cli.datamodule.data) is MNIST
    assert type(cli.datamodule.purifier) is LanguageGuidedDiffusion
    assert type(cli.datamodule.purifier.prompts) is Captions
    assert cli.model.hparams.num_classes == 10
    optimizer = cli.model.configure_optimizers()["optimizer"]
    assert (type(optimizer), optimizer.defaults["lr"], cli.trainer.max_epochs) == (torch.optim.Adam, 1e-3, 15)
