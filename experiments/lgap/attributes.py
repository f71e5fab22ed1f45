"""LGAP told what a digit looks like and not which it is, beside LGAP told which it is.

``python -m experiments.lgap.attributes --root data``: two captioners and two latent diffusion models, one of each from
the names of the digits and one from strokes, leaning and holes. Resumable: all is kept under ``--run``.
"""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.classifiers import MNIST_NET, train_once, trained
from experiments.command import arguments, command
from experiments.lgap.strokes import NAMES, Strokes
from experiments.networks import images_of
from experiments.page import Page, prose
from experiments.purified import Cells, mean
from lightning_adv.attacks import PGD
from lightning_adv.data import MNIST
from lightning_adv.files import replace_atomically
from lightning_adv.purifiers import Captions, ConstantPrompt, LanguageGuidedDiffusion, ThreatModel
from lightning_adv.results.result import Cell, Table
from lightning_adv.results.shares import percent_interval, wilson_interval

__all__ = ["Bench", "main"]

DOCUMENT = Path(__file__).with_suffix(".md")
TEMPLATES = {"digits": "a photo of the digit {}", "strokes": "a photo of a {}"}
SAID = {"digits": [str(k) for k in range(10)], "strokes": NAMES}
EPS, STEPS = 0.2, 40
STRENGTH, EVALUATIONS, GUIDANCE = 0.35, 4, 3.0
"""As on the page of the digits."""
LEARNT, EPOCHS, AUTOENCODER = 20_000, 8, 2
"""Images that every network learns from; epochs of a diffusion model, and how many of them are the autoencoder's."""
SIDES = ("clean", "attacked")


def main() -> None:
    """Train and measure what is missing, write the page."""
    parser = arguments(__doc__, run="runs/lgap_attributes")
    parser.add_argument("--images", type=int, default=200, help="test images")
    given = parser.parse_args()
    page = Page("experiments.lgap.attributes", "lgap_attributes", given.run)
    bench = Bench(given.root, Path(given.run), given.images)
    page.add(bench.accuracies())
    page.add(bench.told())
    facts = {"images": given.images, "eps": EPS, "steps": STEPS, "learnt": LEARNT, "kinds": len(NAMES)}
    how = {"strength": STRENGTH, "evaluations": EVALUATIONS, "guidance": GUIDANCE}
    page.write(prose(DOCUMENT, **facts, **how), [], "MNIST")


class Bench:
    """Networks, images, and what was measured of them.

    Args:
        root: folder of the data.
        run: folder of networks and figures.
        count: test images.
    """

    def __init__(self, root: str, run: Path, count: int) -> None:
        self.root, self.run = root, run
        images = MNIST(root=root, max_train_samples=LEARNT)
        images.setup()
        self.learnt, self.tested = images_of(images, "train"), images_of(images, "test", 0, count)
        self.attack = PGD(EPS, steps=STEPS)
        self.index = images.datasets["test"].index[:count]

    @cached_property
    def cells(self) -> Cells:
        """The classifier, trained on clean images, and its test images."""
        options = (*MNIST_NET, f"--data.max_train_samples={LEARNT}")
        model = trained("MNIST", self.root, self.run / "classifier", options)
        count = len(self.tested[1])
        return Cells(self.run / f"figures_{count}", model, (*self.tested, self.index), (count, count), 1)

    @cached_property
    def strokes(self) -> Strokes:
        """Limits by the images that were learnt from."""
        limits = self.cells.kept.figures("limits", lambda: list(vars(Strokes.of(self.learnt[0])).values()))
        return Strokes(*map(tuple, limits))

    def accuracies(self) -> Table:
        """What is right behind each purifier, clean and attacked blindly."""
        attacks = {"none": None, "pgd": self.attack}
        rows: list[list[Cell]] = [
            ["undefended", "", *self._row([self.cells.undefended(*each) for each in attacks.items()])]
        ]
        for words in TEMPLATES:
            prompts = {"captions": Captions(self._captioner(words), beams=1, min_length=1), "nothing": ConstantPrompt()}
            diffusion = LanguageGuidedDiffusion(
                self._diffusion(words), strength=STRENGTH, steps=EVALUATIONS, guidance=GUIDANCE
            )
            for said, prompter in prompts.items():
                purifier = diffusion.told(prompter)
                shares = [
                    self.cells.purified(f"{words} {said}", purifier, *each, ThreatModel.BLIND)
                    for each in attacks.items()
                ]
                rows.append([words, said, *self._row(shares)])
        shares = ("natural", "blind PGD")
        columns = ["networks learnt", "prompts", "natural", "95 % interval", "blind PGD", "its 95 % interval"]
        return Table("Purified", columns, rows, percent=shares, note=prose(DOCUMENT, "Purified"))

    def told(self) -> Table:
        """How often captions are right, and how often the digit can be guessed from them."""
        rows: list[list[Cell]] = []
        for words in TEMPLATES:
            found = self.cells.kept.figures(f"told {words}", lambda words=words: self._told(words))
            rows.append([words, *(found[f"{of} {side}"] for of in ("right", "guessed") for side in SIDES)])
        columns = ["captions", "right", "right, attacked", "digit guessed", "digit guessed, attacked"]
        return Table(
            "What captions tell", columns, rows, percent=columns[1:], note=prose(DOCUMENT, "What captions tell")
        )

    def _row(self, shares: list[list[float]]) -> list[Cell]:
        """Means over draws, and the interval for so many images."""
        count, row = len(self.tested[1]), []
        for draws in shares:
            row += [mean(draws), percent_interval(wilson_interval(round(mean(draws) * count), count))]
        return row

    def _told(self, words: str) -> dict[str, float]:
        image, label = self.tested
        truth = label if words == "digits" else self.strokes(image)
        guesses = torch.arange(10) if words == "digits" else self._likeliest()
        captions = Captions(self._captioner(words), beams=1, min_length=1)
        found = {}
        for side, images in zip(SIDES, (image, torch.cat(self.cells.blind("pgd", self.attack))), strict=True):
            kinds = torch.tensor([self._kind(words, text) for part in images.split(100) for text in captions(part)])
            found[f"right {side}"] = (kinds == truth).double().mean().item()
            known = kinds >= 0
            found[f"guessed {side}"] = ((guesses[kinds.clamp_min(0)] == label) & known).double().mean().item()
        return found

    def _likeliest(self) -> Tensor:
        """[27] the commonest digit of each kind among the images that were learnt from."""
        image, label = self.learnt
        counts = torch.bincount(self.strokes(image) * 10 + label, minlength=10 * len(NAMES))
        return counts.view(-1, 10).max(dim=1).indices

    def _kind(self, words: str, caption: str) -> int:
        """Number of what a caption says, -1 where it says something else."""
        known = [TEMPLATES[words].format(each) for each in SAID[words]]
        return known.index(caption) if caption in known else -1

    def _captioner(self, words: str) -> str:
        return self._exported("captioner", words, "config.json")

    def _diffusion(self, words: str) -> str:
        longer = (f"--trainer.max_epochs={EPOCHS}", f"--model.init_args.autoencoder_epochs={AUTOENCODER}")
        return self._exported("latent_diffusion", words, "model_index.json", *longer)

    def _exported(self, network: str, words: str, last_file: str, *options: str) -> str:
        """Folder of a network, trained by the command line at the first call."""
        folder = self.run / f"{network}_{words}"
        exported = folder / "exported"
        if not (exported / last_file).is_file():
            data = [f"--data.init_args.root={self.root}", f"--data.init_args.max_train_samples={LEARNT}"]
            data = data if words == "digits" else self._data_of_strokes()
            model = [f"--model.init_args.templates={json.dumps([TEMPLATES[words]])}"]
            model += [f"--model.init_args.export={exported}", *options]
            config = f"--config=configs/purification/mnist_{network}.yaml"
            train_once(exported / last_file, folder / "training", config, *data, *model)
        return str(exported)

    def _data_of_strokes(self) -> list[str]:
        """The images with the numbers of their kinds, as files and options."""
        image, _ = self.learnt
        arrays = {"images": (image * 255).round().byte().numpy(), "labels": self.strokes(image).numpy()}
        replace_atomically(self.run / "strokes.npz", lambda file: np.savez(file, **arrays))
        known = {"root": self.run, "train": "strokes.npz", "num_classes": len(NAMES), "test_size": 500}
        given = [f"--data.init_args.{key}={value}" for key, value in known.items()]
        sizes = ["--data.init_args.batch_size=128", "--data.init_args.eval_batch_size=500"]
        return ["--data=ArrayData", *given, *sizes, f"--data.init_args.class_names={json.dumps(NAMES)}"]


if __name__ == "__main__":
    command(main)
