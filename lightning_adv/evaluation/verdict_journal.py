"""What an attack did to each image, kept on disk as it comes, so that a killed evaluation goes on where it was."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lightning_adv.asking import confident
from lightning_adv.attacks import Attack, AttackResult, perturbation_norms
from lightning_adv.files import append_line, read_lines, replace_atomically
from lightning_adv.names import file_name
from lightning_adv.pixels import digests

__all__ = ["NORMS", "Verdict", "VerdictJournal", "checksums", "fingerprint"]

NORMS = ("Linf", "L2", "L1")
"""The order of :attr:`Verdict.sizes`."""

FORMAT = 2
"""Of a line; goes into the fingerprint, so that lines of another format are not read."""

CONFIDENCE_TOLERANCE = 1e-3
"""A model whose confidence in a clean image moved by more is not the model that was attacked."""


@dataclass(frozen=True)
class Verdict:
    """What one attack did to one image.

    Args:
        restart: number of the restart that succeeded first, -1 for none.
        zero_gradient: whether the attack met a zero gradient.
        confidence: probability of the predicted class under the attack.
        sizes: Linf, L2 and L1 norm of the perturbation.
    """

    restart: int
    zero_gradient: bool
    confidence: float
    sizes: tuple[float, float, float]


class VerdictJournal:
    """The verdicts of one evaluation: in memory, and a line of JSON for every batch and attack in a file of this rank.

    What another process left in the folder, for the same key, is read at the start, whatever its number of ranks. A
    verdict counts for an image with the same bytes and label and the same clean confidence; a line that a kill cut off
    is left out. Lines are flushed to the disk before the next batch, so that a kill costs one.

    Args:
        folder: of the verdicts of one evaluation; None keeps them in memory only.
        key: fingerprint of model, attacks and settings; verdicts of another key in the folder are removed.
        rank: of this process; rank 0 removes.
        ranks: how many there are.
    """

    def __init__(self, folder: Path | None = None, key: str = "", rank: int = 0, ranks: int = 1) -> None:
        self._known: dict[tuple[str, int], tuple[str, float, Verdict]] = {}
        self._stages: dict[str, list[list]] = {}
        self._notes: dict[str, None] = {}
        self._images: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
        self._folder = None if folder is None else folder / key
        if folder is None:
            return
        if rank == 0:
            for other in folder.glob("*/rank0.jsonl"):  # nothing but journals: the folder may be a user's own
                if other.parent.name != key:
                    shutil.rmtree(other.parent)
        self._file = self._folder / f"rank{rank}.jsonl"
        for file in sorted(self._folder.glob("rank*.jsonl")):
            # Lines of a rank that there is no more are counted by one of those there are.
            own = int(file.stem.removeprefix("rank")) % ranks == rank
            for line in read_lines(file):
                self._read(line, own)

    def __len__(self) -> int:
        """Number of verdicts."""
        return len(self._known)

    def checks(self, image: Tensor, label: Tensor) -> list[str]:
        """:func:`checksums` of a batch; nothing is compared, or fetched from the device, where nothing is kept."""
        return [""] * len(label) if self._folder is None else checksums(image, label)

    def find(self, attack: str, index: Tensor, checks: list[str], confidence: Tensor) -> list[Verdict | None]:
        """What is known of these images, None for each that is still to be attacked.

        Args:
            attack: its name.
            index: [M] numbers of the images in their data set.
            checks: :meth:`checks` of images and labels.
            confidence: [M] of the model in its prediction for the clean images.
        """
        found: list[Verdict | None] = []
        for number, check, clean in zip(index.tolist(), checks, confidence.tolist(), strict=True):
            known_check, known_clean, verdict = self._known.get((attack, number), (None, 0.0, None))
            same = known_check == check and not abs(known_clean - clean) > CONFIDENCE_TOLERANCE  # NaN is itself
            found.append(verdict if same else None)
        return found

    def add(
        self,
        attack: str,
        index: Tensor,
        checks: list[str],
        confidence: Tensor,
        clean: Tensor,
        result: AttackResult,
        shown: list[Tensor] | None,
    ) -> None:
        """Keep the verdicts of a batch, and first the images that a picture will show, if any.

        Args:
            attack: its name.
            index: [M] numbers of the images in their data set.
            checks: :meth:`checks` of images and labels.
            confidence: [M] of the model in its prediction for the clean images.
            clean: [M, C, H, W] images before the attack.
            result: of the attack.
            shown: tensors of the first images, to be had back from :meth:`shown`.
        """
        norms = perturbation_norms(clean.double(), result.images.double())
        line = {
            "attack": attack,
            "index": index.tolist(),
            "check": checks,
            "clean_confidence": confidence.tolist(),
            "restart": result.restart.tolist(),
            "zero_gradient": result.zero_gradient.tolist(),
            "confidence": confident(result.logits)[1].tolist(),
            "sizes": torch.stack([norms[norm] for norm in NORMS], dim=1).tolist(),
            "stages": [[stage.name, stage.attacked, stage.broken, stage.seconds] for stage in result.stages],
            "notes": list(result.notes),
        }
        if self._folder is not None:
            if shown:
                tensors = {f"part{i}": part.contiguous() for i, part in enumerate(shown)}
                replace_atomically(self._shown_file(attack, line["index"][0]), save(tensors))
            append_line(self._file, json.dumps(line))
        self._take(line, own=True)

    def shown(self, attack: str, index: Tensor) -> list[Tensor] | None:
        """Tensors that an earlier process kept for the picture of a batch that begins with one of these images."""
        if self._folder is None:
            return None
        files = (self._shown_file(attack, number) for number in index.tolist())
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            return None
        tensors = load_file(file)
        return [tensors[f"part{i}"] for i in range(len(tensors))]

    def keep(self, attack: str, index: Tensor, images: Tensor, said: Tensor) -> None:
        """Keep adversarial images, and the classes said of them, to be had back from :meth:`kept`.

        Args:
            attack: its name.
            index: [M] numbers of the images in their data set.
            images: [M, C, H, W].
            said: [M].
        """
        tensors = {"index": index, "images": images, "said": said}
        tensors = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
        self._remember(attack, tensors)
        if self._folder is not None and len(index):
            replace_atomically(self._images_of(attack) / f"{int(index[0])}.safetensors", save(tensors))

    def kept(self, attack: str) -> dict[int, tuple[Tensor, Tensor]]:
        """Number of an image to what :meth:`keep` was given of it, in this process or an earlier one."""
        if attack not in self._images:
            files = [] if self._folder is None else list(self._images_of(attack).glob("*.safetensors"))
            self._images[attack] = {}
            for file in sorted(files, key=lambda file: file.stat().st_mtime_ns):  # the latest counts
                self._remember(attack, load_file(file))
        return self._images[attack]

    def _remember(self, attack: str, tensors: dict[str, Tensor]) -> None:
        rows = zip(tensors["images"], tensors["said"], strict=True)
        self._images.setdefault(attack, {}).update(zip(tensors["index"].tolist(), rows, strict=True))

    def _images_of(self, attack: str) -> Path:
        return self._folder / "images" / file_name(attack)

    def stages(self, attack: str) -> dict[str, tuple[int, int, float]]:
        """Of an ensemble: name of each stage to images attacked, images broken and seconds, of this rank's lines."""
        totals: dict[str, tuple[int, int, float]] = {}
        for name, *counts in self._stages.get(attack, []):
            totals[name] = tuple(a + b for a, b in zip(totals.get(name, (0, 0, 0.0)), counts, strict=True))
        return totals

    @property
    def notes(self) -> list[str]:
        """What the attacks noted, each once."""
        return list(self._notes)

    def _shown_file(self, attack: str, first: int) -> Path:
        return self._folder / f"{file_name(attack)}-{first}.safetensors"

    def _read(self, line: str, own: bool) -> None:
        try:
            self._take(json.loads(line), own)
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            return

    def _take(self, line: dict, own: bool) -> None:
        attack = line["attack"]
        columns = ("index", "check", "clean_confidence", "restart", "zero_gradient", "confidence", "sizes")
        for index, check, clean, *verdict, sizes in zip(*(line[name] for name in columns), strict=True):
            self._known[attack, index] = (check, clean, Verdict(*verdict, tuple(sizes)))
        if own:
            self._stages.setdefault(attack, []).extend(line["stages"])
        self._notes |= dict.fromkeys(f"{attack}: {note}" for note in line["notes"])


def checksums(image: Tensor, label: Tensor) -> list[str]:
    """A text for each image [N, C, H, W] and its label: those of another data set differ."""
    return [f"{digest}-{number}" for digest, number in zip(digests(image), label.tolist(), strict=True)]


def fingerprint(model: nn.Module, attacks: dict[str, Attack], settings: str) -> str:
    """A key that changes with the model's weights or structure, with any setting of an attack, and with ``settings``.

    Args:
        model: its parameters, buffers and printed structure.
        attacks: by name.
        settings: whatever else a verdict depends on, e.g. the precision.
    """
    digest = hashlib.sha256(f"{FORMAT}\n{settings}\n{model}\n".encode())
    _update(digest, {name: _plain(attack) for name, attack in attacks.items()})
    _update(digest, model.state_dict())
    return digest.hexdigest()[:16]


def _plain(value: object) -> object:
    """An attack as its class and attributes, all the way down."""
    if isinstance(value, nn.Module):
        return {"module": str(value), "weights": value.state_dict()}
    if isinstance(value, Attack):
        return {"class": type(value).__qualname__} | {name: _plain(each) for name, each in sorted(vars(value).items())}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (type, FunctionType)):
        return value.__qualname__  # its repr holds an address
    return value if isinstance(value, Tensor) else repr(value)


def _update(digest: "hashlib._Hash", value: object) -> None:
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous()
        digest.update(f"{data.dtype}{tuple(data.shape)}".encode())
        digest.update(data.flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for name, each in value.items():
            digest.update(f"{name}:".encode())
            _update(digest, each)
    elif isinstance(value, list):
        for each in value:
            _update(digest, each)
    else:
        digest.update(f"{value};".encode())
