"""Spread over two processes, diffusion models learn what they learn under DDP, and go on from their checkpoints."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lightning_adv.modules import DiffusionModule
from lightning_adv.modules.sharding import shard, whole
from lightning_adv.purifiers import Diffusion
from tests.processes import torchrun

SCRIPT = """
import json, sys
import pytorch_lightning as pl, torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from lightning_adv.callbacks import LastCheckpoint
from lightning_adv.modules import DiffusionModule, LatentDiffusionModule
from tests.callbacks.recipes import SmallData

def trained(kind, how, epochs, ckpt_path=None):
    torch.manual_seed(0)
    export = f"{kind}_{how}"
    shape = {"in_channels": 3, "image_size": (8, 8), "export": export}
    if kind == "pixel":
        model = DiffusionModule(channels=(8, 16), **shape)
    else:
        model = LatentDiffusionModule(class_names=list("abcd"), autoencoder_epochs=1, autoencoder_channels=(8, 8),
                                      channels=(8,), text_width=8, **shape)
    if how == "ddp":
        strategy = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
    else:
        strategy = ModelParallelStrategy(2, 1, save_distributed_checkpoint=False, process_group_backend="gloo")
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, max_epochs=epochs, logger=False,
                         callbacks=[LastCheckpoint(folder=f"{export}_checkpoints")], enable_progress_bar=False,
                         enable_model_summary=False, num_sanity_val_steps=0, limit_train_batches=2,
                         limit_val_batches=1)
    trainer.fit(model, datamodule=SmallData(), ckpt_path=ckpt_path, weights_only=True)
    held = [getattr(weight, "_local_tensor", weight).numel() for weight in model.parameters()]
    return sum(held), {key: value.item() for key, value in trainer.callback_metrics.items()}

held, metrics = {}, {}
trained("pixel", "fsdp", 1)
cut = {"pixel fsdp": "pixel_fsdp_checkpoints/last.ckpt"}  # which goes on; the others are trained in one piece
for kind in ("pixel", "latent"):
    for how in ("ddp", "fsdp"):
        held[f"{kind} {how}"], metrics[f"{kind} {how}"] = trained(kind, how, 2, cut.get(f"{kind} {how}"))
with open(f"{torch.distributed.get_rank()}.json", "w") as file:
    json.dump([held, metrics], file)
"""

EXPORTED = {
    "pixel": ("unet/diffusion_pytorch_model",),
    "latent": ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"),
}


@pytest.mark.slow
def test_spread_models_learn_and_export_what_whole_ones_do_and_resume(tmp_path):
    torchrun(SCRIPT, tmp_path, 2)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0][1] == ranks[1][1]
    metrics = ranks[0][1]
    for kind in ("pixel", "latent"):
        assert metrics[f"{kind} fsdp"] == pytest.approx(metrics[f"{kind} ddp"], rel=1e-4)
    for kind, files in EXPORTED.items():
        assert sum(held[f"{kind} fsdp"] for held, _ in ranks) == ranks[0][0][f"{kind} ddp"]
        assert max(held[f"{kind} fsdp"] for held, _ in ranks) < 0.52 * ranks[0][0][f"{kind} ddp"]
        for name in files:
            spread, plain = (load_file(tmp_path / f"{kind}_{how}" / f"{name}.safetensors") for how in ("fsdp", "ddp"))
            torch.testing.assert_close(spread, plain, rtol=0, atol=2e-3)
    assert Diffusion(str(tmp_path / "pixel_fsdp"), noise_level=0.2, steps=2)(torch.rand(2, 3, 8, 8)).isfinite().all()


def test_without_a_mesh_nothing_is_spread():
    network = nn.Linear(2, 2)
    shard(network, None)
    assert type(network) is nn.Linear
    assert whole(network) is network


def test_a_module_outside_a_trainer_is_exported_as_it_is(tmp_path):
    module = DiffusionModule(channels=(8, 8), in_channels=1, image_size=(8, 8))
    module.configure_model()
    module.save_pretrained(str(tmp_path))
    assert Diffusion(str(tmp_path), noise_level=0.2, steps=1)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)
