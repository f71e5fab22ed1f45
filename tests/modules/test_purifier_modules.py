from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, TensorDataset

from lightning_adv.errors import InputError
from lightning_adv.modules import DiffusionModule, VQVAEModule
from lightning_adv.purifiers import VQVAE, Diffusion, DiffusionGenerator
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


@pytest.mark.parametrize(("unguided", "told"), [(0.0, {1, 3}), (1 - 1e-9, {4})], ids=["always", "never"])
def test_a_conditional_network_is_told_the_class_of_an_image_or_that_there_is_none(unguided, told):
    module = small(DiffusionModule, conditional=True, unguided=unguided, num_classes=4)
    before = module.network.class_embedding.weight.detach().clone()
    some = TensorDataset(images(8).tensors[0], torch.tensor([1, 3]).repeat(4))
    trainer(max_steps=1, limit_val_batches=0).fit(module, *[DataLoader(some, batch_size=8)] * 2)
    changed = (module.network.class_embedding.weight != before).any(dim=1)
    assert set(changed.nonzero().flatten().tolist()) == told


def test_an_image_is_a_function_of_seed_number_and_class(tmp_path):
    small(DiffusionModule, conditional=True, num_classes=4).save_pretrained(str(tmp_path))
    generator = DiffusionGenerator(str(tmp_path), steps=3, guidance=2.0)
    label, number = torch.arange(4), torch.arange(4) + 7
    made = generator(label, number)
    torch.testing.assert_close(made[2:3], generator(label[2:3], number[2:3]), rtol=0, atol=1e-4)
    assert not torch.equal(made, generator(label, number + 1))
    assert not torch.equal(made, generator(label.flip(0), number))
    assert not torch.equal(made, DiffusionGenerator(str(tmp_path), steps=3, guidance=2.0, seed=1)(label, number))
    plain, unguided = (DiffusionGenerator(str(tmp_path), steps=1, guidance=each)(label, number) for each in (1, 0))
    no_class = DiffusionGenerator(str(tmp_path), steps=1)(torch.full_like(label, 4), number)
    torch.testing.assert_close(unguided, no_class)
    assert not torch.equal(plain, unguided)
    x = images(4).tensors[0]
    assert Diffusion(str(tmp_path))(x).shape == x.shape, "it purifies, told that there is no class"


def test_classes_are_asked_for_where_they_are_needed(tmp_path):
    with pytest.raises(InputError, match="conditional needs num_classes"):
        small(DiffusionModule, conditional=True)
    small(DiffusionModule).save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="trained without classes: train a DiffusionModule with conditional=true"):
        DiffusionGenerator(str(tmp_path))
    with pytest.raises(InputError, match="guidance must be 0 or more"):
        DiffusionGenerator(str(tmp_path), guidance=-1.0)
