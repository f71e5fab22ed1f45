"""Networks of purifiers from folders and the hub: safetensors only, never code."""

from pathlib import Path
from typing import TypeVar

from torch import nn

from lightning_adv.errors import InputError

__all__ = ["check_images", "load_pretrained"]

Network = TypeVar("Network", bound=nn.Module)
WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_pretrained(kind: type[Network], path: str, subfolder: str = "", local_files_only: bool = False) -> Network:
    """A diffusers network in eval mode, its weights frozen.

    Args:
        kind: its class, with ``from_pretrained``.
        path: a folder written by ``save_pretrained``, or the id of a model on the Hugging Face hub.
        subfolder: of it, in a pipeline.
        local_files_only: read only folders and the hub's local cache.

    Raises:
        InputError: no such folder or model, no network, weights that are not safetensors, or of another architecture.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        _check_folder(folder / subfolder, kind.__name__)
    elif path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise InputError(f"no folder {path}: give one that save_pretrained wrote, or a hub id such as owner/model")
    try:
        network = kind.from_pretrained(
            str(folder) if folder.is_dir() else path,
            subfolder=subfolder or None,
            use_safetensors=True,
            local_files_only=local_files_only,
            low_cpu_mem_usage=False,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        if folder.is_dir():
            raise InputError(f"{folder / subfolder} does not load as a {kind.__name__}: {error}") from error
        raise InputError(
            f"{path} is no folder, and no safetensors weights of that name could be had from the hub or its local "
            f"cache; where there is a network, run `hf download {path}`, or give the folder of a copy"
        ) from error
    return network.requires_grad_(False).eval()


def check_images(name: str, shape: tuple[int, ...], channels: int, factor: int) -> None:
    """Refuse images [N, C, H, W] that a network was not made for.

    Raises:
        InputError: other channels, or a side that is not a multiple of ``factor``.
    """
    if shape[1] != channels:
        raise InputError(f"{name} was trained on images of {channels} channels, got {shape[1]}")
    if shape[2] % factor or shape[3] % factor:
        raise InputError(
            f"{name} halves images until they are 1/{factor} as large, and {shape[2]} x {shape[3]} is not a multiple"
        )


def _check_folder(folder: Path, kind: str) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no config.json; expected a {kind} that save_pretrained wrote")
    if not (folder / WEIGHTS).is_file() and not list(folder.glob("*.safetensors*")):
        pickles = [file.name for file in folder.glob("*.bin")]
        found = f"only {', '.join(pickles)}, which is a pickle and can run code" if pickles else "none"
        raise InputError(f"{folder} must hold {WEIGHTS}, found {found}; save it with safe_serialization=True")
