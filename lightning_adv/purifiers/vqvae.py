"""Reconstruction by a vector-quantised auto-encoder (van den Oord et al., 2017; as a defence: Tan, Te, Lai, 2019).

x_hat = decode(q(encode(x))),    q(z) = the nearest code e_k
"""

from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.purifiers.pretrained import check_chunk, check_fits, load_pretrained
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["VQVAE"]


class VQVAE(Purifier):
    """Every image as a trained VQ-VAE gives it back; gradients pass straight through the choice of codes.

    Args:
        path: folder of a diffusers ``VQModel`` for images in [-1, 1], as ``VQVAEModule`` exports it, or a hub id.
        chunk: images that the network sees at a time; more fill a GPU. Results for one chunk have equal bits in batches
            of any size.
        local_files_only: never ask the hub.

    Raises:
        InputError: a chunk below 1, a folder or model that cannot be loaded; at the call, images of other channels, or
            of a size that the encoder cannot halve.

    Example:
        >>> import tempfile
        >>> from diffusers import VQModel
        >>> blocks = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     VQModel(in_channels=1, out_channels=1, **blocks).save_pretrained(folder)
        ...     purifier = VQVAE(folder)
        >>> purifier(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, path: str, chunk: int = 32, local_files_only: bool = False) -> None:
        from diffusers import VQModel

        super().__init__()
        self.path, self.chunk, self.local_files_only = path, check_chunk(chunk), local_files_only
        self.network = load_pretrained(VQModel, path, local_files_only=local_files_only)

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """decode(q(encode(x)))."""
        config = self.network.config
        check_fits("the VQ-VAE", x.shape, config.in_channels, 2 ** (len(config.block_out_channels) - 1))
        latents = self.network.encode(2 * x - 1).latents
        return (self.network.decode(latents).sample + 1) / 2
