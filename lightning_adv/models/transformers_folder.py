"""Image classifiers in folders of transformers: the library's own network and preparation of images, no code of theirs.

What a folder's preprocessor does to the colours of an image is asked of it: it is shown a black image and one of each
full colour, and is a change of order, a scale and a shift for each channel, or is refused.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lightning_adv.errors import InputError
from lightning_adv.models.folders import read_settings
from lightning_adv.models.normalize import NormalizedModel, Statistics, normalize_by
from lightning_adv.models.weights import read_state_dict

__all__ = ["LogitsOf", "open_transformers_folder"]

_RUNS_CODE = ("auto_map", "custom_pipelines", "quantization_config", "use_pretrained_backbone")
"""Settings by which a folder has code imported, or other weights fetched."""
_IGNORED = ("attn_implementation", "experts_implementation", "torch_dtype", "dtype")
"""Settings of how a network is computed; some name programs of the hub."""


class LogitsOf(nn.Module):
    """A classifier of transformers that answers with its logits alone.

    Args:
        net: the classifier.
        order: of the channels that it takes, for those that want blue first.
    """

    def __init__(self, net: nn.Module, order: tuple[int, ...]) -> None:
        super().__init__()
        self.net, self.order = net, order
        self.num_classes = int(net.config.num_labels)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of normalised images [N, C, H, W]."""
        wanted = x if self.order == tuple(range(len(self.order))) else x[:, list(self.order)]
        return self.net(pixel_values=wanted).logits


def open_transformers_folder(folder: Path, statistics: Statistics | None = None) -> NormalizedModel:
    """The image classifier of a folder: images [N, C, H, W] in [0, 1] -> logits.

    Args:
        folder: with `config.json`, weights and, in most of them, `preprocessor_config.json`.
        statistics: of the images; assumed ones hold for a folder without the last, others always.

    Raises:
        InputError: settings that ask for code, no image classifier, weights that are missing or left over, or a
            preparation of images that mixes their channels.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    settings = read_settings(folder / "config.json")
    _refuse_code(settings, folder / "config.json")
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise InputError(
            f"{folder / 'config.json'} names neither an architecture of timm nor a model_type of transformers"
        )
    state = read_state_dict(folder)
    with _quietly():
        try:
            config = CONFIG_MAPPING[kind].from_dict(_plain(settings))
            if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
                raise InputError(f"{folder} holds a {kind} of transformers, which is no image classifier")
            net, told = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)].from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True, dtype=torch.float32
            )
        except InputError:
            raise
        except Exception as error:  # settings of a stranger's may break its constructor in any way
            raise InputError(f"{folder} cannot be built by transformers: {_line(error)}") from error
        _check_loaded(folder, told)
        channels = config.to_dict().get("num_channels", 3)
        order, told = tuple(range(channels)), None
        if (folder / "preprocessor_config.json").is_file():
            order, told = _preparation(folder, channels)
        if told is None or (statistics is not None and not statistics.assumed):
            told = statistics
    normalize = normalize_by(told, channels)
    return NormalizedModel(normalize, LogitsOf(net, order)).train()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the bars and logs of transformers; what matters of them is asked for."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _refuse_code(value: object, path: Path) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _RUNS_CODE and inner:
                raise InputError(
                    f"{path} is refused: its {key} has code or weights from elsewhere fetched, and nothing from a file "
                    "is run; save the network as one that transformers itself has"
                )
            _refuse_code(inner, path)
    for inner in value if isinstance(value, list) else ():
        _refuse_code(inner, path)


def _plain(value: object) -> object:
    """Settings of the network alone."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if k not in _IGNORED and not k.startswith("_")}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _check_loaded(folder: Path, told: Mapping[str, object]) -> None:
    wrong = {kind: sorted(map(str, told.get(f"{kind}_keys") or ())) for kind in ("missing", "unexpected", "mismatched")}
    complaints = [f"{len(names)} weights are {kind} ({', '.join(names[:3])})" for kind, names in wrong.items() if names]
    if complaints or told.get("error_msgs"):
        raise InputError(f"{folder} does not fit its own config.json: {'; '.join(complaints) or told['error_msgs']}")


def _preparation(folder: Path, channels: int) -> tuple[tuple[int, ...], Statistics]:
    """Order of the channels and normalisation, as the folder's own preprocessor has them."""
    from transformers import AutoImageProcessor

    path = folder / "preprocessor_config.json"
    _refuse_code(read_settings(path), path)
    colours = np.concatenate([np.zeros((1, channels)), np.eye(channels)]) * 255
    images = [np.tile(colour.astype(np.uint8), (8, 8, 1)) for colour in colours]
    try:
        prepare = AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        shown = prepare(
            images, return_tensors="pt", input_data_format="channels_last", do_resize=False, do_center_crop=False
        )
        black, *full = shown["pixel_values"].double()[:, :, 4, 4]
    except Exception as error:  # as above
        raise InputError(f"{path} cannot be used by transformers: {_line(error)}") from error
    change = torch.stack([each - black for each in full], dim=1)  # [channel of the result, channel of the image]
    used = change.abs() > 1e-6
    order = tuple(used.nonzero()[:, 1].tolist())
    if not (used.sum(dim=1) == 1).all() or sorted(order) != list(range(channels)):
        raise InputError(f"{path} mixes the channels of an image, which is no normalisation")
    # z[i] = change[i, j] x[j] + black[i] for j = order[i]: (x[j] - mean[j]) / std[j], then the channels in that order.
    places = [order.index(channel) for channel in range(channels)]
    scale = change.sum(dim=1)
    if (scale <= 0).any():
        raise InputError(f"{path} turns colours round, which is no normalisation")
    mean, std = (-black / scale)[places].tolist(), (1 / scale)[places].tolist()
    return order, Statistics(tuple(mean), tuple(std), f"{folder.name}/preprocessor_config.json")
