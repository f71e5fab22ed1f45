"""Small networks for language-guided purification, written as the modules write them."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LDMTextToImagePipeline, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from transformers import BertConfig, BertModel, BertTokenizer

from lightning_adv.modules import CaptionerModule, LatentDiffusionModule

__all__ = ["CLASSES", "SIZE", "write_captioner", "write_latent_diffusion", "write_text_to_image"]

SIZE = (8, 8)
CLASSES = ["cat", "dog", "ship"]


def write_latent_diffusion(folder: Path, channels: int = 3) -> Path:
    """A latent diffusion model with random weights that listens to its prompts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = LatentDiffusionModule(
            autoencoder_channels=(8, 8), channels=(8, 16), text_width=8, class_names=CLASSES, in_channels=channels,
            image_size=SIZE,
        )  # fmt: skip
        for parameter in module.average.module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        module.save_pretrained(str(folder))
    return folder


def write_captioner(folder: Path, channels: int = 3) -> Path:
    """A captioner with random weights that says different things of different images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = CaptionerModule(class_names=CLASSES, in_channels=channels, image_size=SIZE, width=16, layers=1)
        for parameter in module.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        module.save_pretrained(str(folder))
    return folder


def write_text_to_image(folder: Path, own_bert: bool = True) -> Path:
    """A latent diffusion model with random weights whose prompts a BERT reads; images are halved three times."""
    tokenizer = BertTokenizer().train_new_from_iterator([f"a photo of a {name}" for name in CLASSES], 100)
    tokenizer.model_max_length = 512  # as published, though the network is given 77
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        of_diffusers = LDMBertConfig(
            vocab_size=100, encoder_layers=2, encoder_ffn_dim=16, encoder_attention_heads=2, head_dim=4, d_model=8,
            pad_token_id=0,
        )  # fmt: skip
        of_transformers = BertConfig(
            vocab_size=100, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
        )
        bert = LDMBertModel(of_diffusers) if own_bert else BertModel(of_transformers)
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8,) * 4, norm_num_groups=8,
        )  # fmt: skip
        network = UNet2DConditionModel(
            sample_size=8, down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
            block_out_channels=(8,), layers_per_block=1, norm_num_groups=8, cross_attention_dim=8, attention_head_dim=4,
        )  # fmt: skip
        for parameter in bert.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False
    )
    LDMTextToImagePipeline(autoencoder, bert.eval(), tokenizer, network, scheduler).save_pretrained(folder)
    return folder
