from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader

from lightning_adv.errors import InputError
from lightning_adv.modules import DiffusionModule, VQVAEModule
from lightning_adv.purifiers import VQVAE, Diffusion
from tests.callbacks.recipes import EveryCheckpoint, SmallData
from tests.callbacks.strangers import CHANNELS, SIZE, images, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:GPU available", "ignore:.*number of training batches"
)
SHAPE = {"in_channels": CHANNELS, "image_size": (SIZE, SIZE)}


def small(kind: type, **options: object) -> VQVAEModule | DiffusionModule:
    torch.manual_seed(0)
    fewer = {"codes": 32, "latent_channels": 4, "lr": 3e-3} if kind is VQVAEModule else {"lr": 2e-3, "ema": 0.5}
    return kind(channels=(8, 16), **SHAPE, **(fewer | options))


def fitted(module: VQVAEModule | DiffusionModule, folder: Path | None = None, **options: object):
    train, val = (DataLoader(images(count), batch_size=16) for count in (64, 32))
    runner = trainer(folder=folder, **({"max_epochs": 4} | options))
    runner.fit(module, train, val)
    return runner


@pytest.mark.parametrize(("kind", "metric"), [(VQVAEModule, "val/error"), (DiffusionModule, "val/loss")])
def test_training_lowers_the_loss_and_exports_what_the_purifier_reads(kind, metric, tmp_path):
    export = tmp_path / "exported"
    module = small(kind, export=str(export))
    before = trainer().validate(module, DataLoader(images(32), batch_size=16), verbose=False)[0][metric]
    after = float(fitted(module).callback_metrics[metric])
    assert after < 0.8 * before
    assert list(export.rglob("*.safetensors"))
    assert not list(export.rglob("*.bin"))
    x = images(4).tensors[0]
    purifier = VQVAE(str(export)) if kind is VQVAEModule else Diffusion(str(export))
    own = module.network if kind is VQVAEModule else module.average.module
    assert all(torch.equal(a, b) for a, b in zip(purifier.network.parameters(), own.parameters(), strict=True))
    assert purifier(x).shape == x.shape


@pytest.mark.parametrize("kind", [VQVAEModule, DiffusionModule])
def test_the_same_seed_gives_the_same_weights(kind):
    one, two = small(kind), small(kind)
    for module in (one, two):
        torch.manual_seed(5)
        fitted(module, max_epochs=1)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("kind", [VQVAEModule, DiffusionModule])
def test_an_interrupted_epoch_ends_with_the_weights_and_the_loss_of_an_uninterrupted_one(kind, tmp_path):
    def trained(*callbacks: Callback, checkpoint: Path | None = None) -> tuple[float, dict]:
        runner, module = trainer(*callbacks, max_epochs=2, num_sanity_val_steps=0), small(kind)
        runner.fit(module, datamodule=SmallData(), ckpt_path=checkpoint)
        return float(runner.callback_metrics["train/loss"]), module.state_dict()

    saved = EveryCheckpoint(tmp_path)
    torch.manual_seed(5)
    loss, weights = trained(saved)
    for checkpoint in saved.copies[-4:-1]:  # within the last epoch
        again, resumed = trained(checkpoint=checkpoint)
        assert again == loss, checkpoint.name
        differ = [name for name, value in weights.items() if not torch.equal(value, resumed[name])]
        assert not differ, checkpoint.name


def test_noise_on_the_inputs_changes_what_is_learnt():
    one, two = small(VQVAEModule), small(VQVAEModule, noise=0.5)
    for module in (one, two):
        torch.manual_seed(5)
        fitted(module, max_epochs=1)
    assert not torch.equal(next(one.parameters()), next(two.parameters()))


@pytest.mark.parametrize("kind", [VQVAEModule, DiffusionModule])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": None}, "taken from the data|come from the data"),
        ({"channels": (9, 16)}, "multiples of 8"),
        ({"image_size": (9, 9)}, "9 x 9 is not a multiple"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        kind(**({"channels": (8, 16)} | SHAPE | arguments))
