"""Networks of purifiers from folders and the hub: safetensors only, never code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from torch import nn

from lightning_adv.errors import InputError

__all__ = ["check_chunk", "check_fits", "load_parts", "load_pretrained", "load_settings", "without_progress_bars"]

Network = TypeVar("Network", bound=nn.Module)
Settings = TypeVar("Settings")


def load_pretrained(kind: type[Network], path: str, subfolder: str = "", local_files_only: bool = False) -> Network:
    """A network of diffusers or transformers in eval mode, its weights frozen.

    Args:
        kind: its class, with ``from_pretrained``.
        path: a folder written by ``save_pretrained``, or the id of a model on the Hugging Face hub.
        subfolder: of it, in a pipeline.
        local_files_only: read only folders and the hub's local cache.

    Raises:
        InputError: no such folder or model, no network, weights that are not safetensors, or of another architecture.
    """
    folder = _folder(path)
    if folder is not None:
        _check_weights(folder / subfolder, kind.__name__)
    options = {"use_safetensors": True, "local_files_only": local_files_only, "subfolder": subfolder}
    if _is_of_diffusers(kind):
        options |= {"subfolder": subfolder or None, "low_cpu_mem_usage": False}  # which needs another package
    return _loaded(kind.from_pretrained, path, folder, options).requires_grad_(False).eval()


def load_settings(kind: type[Settings], path: str, subfolder: str = "", local_files_only: bool = False) -> Settings:
    """A tokenizer or an image processor, which has no weights.

    Args:
        kind: its class, with ``from_pretrained``.
        path: a folder written by ``save_pretrained``, or the id of a model on the Hugging Face hub.
        subfolder: of it, in a pipeline.
        local_files_only: read only folders and the hub's local cache.

    Raises:
        InputError: no such folder or model, no network, files that are missing or broken.
    """
    folder = _folder(path)
    if folder is not None and not any((folder / subfolder).glob("*.json")):
        raise InputError(f"{folder / subfolder} holds no {kind.__name__}; expected what save_pretrained wrote")
    return _loaded(kind.from_pretrained, path, folder, {"local_files_only": local_files_only, "subfolder": subfolder})


def load_parts(path: str, local_files_only: bool = False) -> dict[str, str]:
    """Names of the classes that a pipeline of diffusers says its parts are of, by part: words, which nothing follows.

    Args:
        path: a folder written by ``save_pretrained``, or the id of a model on the Hugging Face hub.
        local_files_only: read only folders and the hub's local cache.

    Returns:
        None where there is no ``model_index.json``, as in a cache that was filled part by part.

    Raises:
        InputError: no such folder, a file that names no parts.
    """
    from diffusers import DiffusionPipeline

    folder = _folder(path)
    if folder is not None and not (folder / DiffusionPipeline.config_name).is_file():
        return {}
    try:
        index = _loaded(DiffusionPipeline.load_config, path, folder, {"local_files_only": local_files_only})
    except InputError:
        if folder is not None:
            raise
        return {}  # the first part that is loaded says what is missing
    if not isinstance(index, dict):
        raise InputError(f"{path}: {DiffusionPipeline.config_name} does not name the parts of a pipeline")
    named = {part: each[-1] for part, each in index.items() if isinstance(each, list) and each}  # [package, class]
    return {part: name for part, name in named.items() if isinstance(name, str)}


def check_chunk(chunk: int) -> int:
    """Refuse a number of images that no network can be given.

    Raises:
        InputError: below 1.
    """
    if chunk < 1:
        raise InputError(f"chunk must be at least 1, got {chunk}: images that the network sees at a time")
    return chunk


def check_fits(name: str, shape: tuple[int, ...], channels: int, factor: int) -> None:
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


def _folder(path: str) -> Path | None:
    """The folder of that path, None for the id of a model on the hub."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise InputError(f"no folder {path}: give one that save_pretrained wrote, or a hub id such as owner/model")
    return None


def _loaded(
    load: Callable[..., Settings], path: str, folder: Path | None, options: dict[str, str | bool | None]
) -> Settings:
    try:
        with without_progress_bars():
            return load(path if folder is None else str(folder), **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        if folder is not None:
            where = folder / (options.get("subfolder") or "")
            raise InputError(f"{where} does not load as a {load.__self__.__name__}: {error}") from error
        raise InputError(
            f"{path} is no folder, and no safetensors weights of that name could be had from the hub or its local "
            f"cache; where there is a network, run `hf download {path}`, or give the folder of a copy"
        ) from error


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Transformers draws one for every network that it reads or writes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _is_of_diffusers(kind: type) -> bool:
    return kind.__module__.startswith("diffusers.")


def _check_weights(folder: Path, kind: str) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no config.json; expected a {kind} that save_pretrained wrote")
    if not list(folder.glob("*.safetensors*")):
        pickles = [file.name for file in sorted(folder.glob("*.bin"))]
        found = f"only {', '.join(pickles)}, which is a pickle and can run code" if pickles else "none"
        raise InputError(f"{folder} must hold *.safetensors, found {found}; save it with safe_serialization=True")
