"""The pictures of a page: charts as part of it, images as PNG files beside it or, of a page in one file, inside it."""

import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup
from PIL import Image
from torch import Tensor

from lightning_adv.files import replace_atomically
from lightning_adv.reports.charts import inline_svg
from lightning_adv.results.figures import png
from lightning_adv.results.result import Picture, Tile

__all__ = ["Album", "ShownImage", "ShownPicture", "embedded"]

LARGEST = 224  # pixels of a tile's image: larger ones are shrunk
OWN = re.compile(r"\d+(-\d+)*_[A-Za-z0-9_-]*\.png")


@dataclass(frozen=True)
class ShownImage:
    """An image on the page: where it is, and its size in CSS pixels."""

    source: str
    width: int
    height: int
    alt: str
    tile: Tile | None = None


@dataclass(frozen=True)
class ShownPicture:
    """A picture on the page: a chart as SVG, images of samples under headings, or one image."""

    title: str
    caption: str
    folded: bool
    chart: Markup | None = None
    image: ShownImage | None = None
    tiles: dict[str, list[ShownImage]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @property
    def is_chart(self) -> bool:
        """Whether it is one."""
        return self.chart is not None


class Album:
    """The pictures of one page.

    Args:
        folder: of the page; images go to ``pictures/`` in it.
        alone: whether the page holds them itself.
    """

    def __init__(self, folder: Path, alone: bool = False) -> None:
        self.folder, self.alone = folder / "pictures", alone
        self._files: dict[str, bytes] = {}

    def add(self, number: str, picture: Picture) -> ShownPicture:
        """Draw a picture.

        Args:
            number: which no other picture of the page has: names may differ in nothing that a file name can hold.
            picture: of a result.
        """
        look = {"title": picture.title, "caption": picture.caption, "folded": picture.folded}
        before = set(self._files)
        stem = f"{number}_{re.sub(r'[^A-Za-z0-9-]+', '_', picture.name)}"
        if picture.tiles is not None:
            look["tiles"] = {
                heading: [self._tile(f"{stem}_{place}-{i}.png", tile) for i, tile in enumerate(tiles, start=1)]
                for place, (heading, tiles) in enumerate(picture.tiles().items(), start=1)
            }
        elif picture.alt is None:
            look["chart"] = Markup(inline_svg(picture.draw(), f"chart-{number}", picture.title))
        else:
            figure = picture.draw()
            width, height = (round(100 * inches) for inches in figure.get_size_inches())
            look["image"] = ShownImage(self._kept(f"{stem}.png", png(figure)), width, height, picture.alt)
        return ShownPicture(**look, files=[] if self.alone else [each for each in self._files if each not in before])

    def write(self) -> None:
        """Write the files."""
        for name, content in self._files.items():
            if not self.alone:
                replace_atomically(self.folder / name, content)

    def remove_old(self) -> None:
        """Remove what an earlier page had in the folder."""
        kept = set() if self.alone else self._files.keys()
        for each in self.folder.glob("*.png"):
            if OWN.fullmatch(each.name) and each.name not in kept:
                each.unlink()

    def _tile(self, name: str, tile: Tile) -> ShownImage:
        row = _row(tile.images)
        stream = io.BytesIO()
        row.save(stream, "png")
        return ShownImage(self._kept(name, stream.getvalue()), *row.size, tile.alt, tile)

    def _kept(self, name: str, content: bytes) -> str:
        self._files[name] = content
        return embedded(content, "image/png") if self.alone else f"pictures/{name}"


def embedded(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _row(images: Tensor) -> Image.Image:
    """Images [n, 3, H, W] side by side, with gaps that show what is behind."""
    pixels = (255 * images).round().byte().permute(0, 2, 3, 1).numpy()
    shown = [Image.fromarray(each) for each in pixels]
    for each in shown:
        each.thumbnail((LARGEST, LARGEST))
    width, height = shown[0].size
    gap = max(1, width // 16)
    row = Image.new("RGBA", (len(shown) * (width + gap) - gap, height))
    for i, each in enumerate(shown):
        row.paste(each, (i * (width + gap), 0))
    return row
