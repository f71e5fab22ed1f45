"""The networks of the LGAP experiment."""

import argparse
from collections.abc import Callable
from pathlib import Path

from torch import nn

from experiments.classifiers import MNIST_NET, checkpoint_of, train_once
from experiments.lgap.by_class import Purifiers
from lightning_adv.modules import ClassifierModule, load_classifier
from lightning_adv.purifiers import Captions, ConstantPrompt, LanguageGuidedDiffusion, PredictedClass, Prompter

__all__ = ["Networks"]

TEMPLATE = "a photo of the digit {}"


class Networks:
    """The networks of the experiment, each trained by the command line when first needed.

    Args:
        run: folder.
        given: the command line.
    """

    def __init__(self, run: Path, given: argparse.Namespace) -> None:
        self.run, self.given = run, given

    def classifier(self) -> ClassifierModule:
        """The classifier as trained on clean images."""
        return load_classifier(self._classifier())

    def fine_tuned(self, images: int) -> ClassifierModule:
        """The same after 15 epochs on purified images."""
        folder = self.run / f"fine_tuned_{images}"
        purifier = "--data.purifier.init_args"
        options = {
            "--data.data.init_args.root": self.given.root,
            "--data.data.init_args.max_train_samples": images,
            f"{purifier}.path": self.diffusion(),
            f"{purifier}.prompts.init_args.path": self.captioner(),
            f"{purifier}.strength": self.given.strength,
            f"{purifier}.steps": self.given.evaluations,
            f"{purifier}.guidance": self.given.guidance,
            "--data.cache": self.run / "purified",
            "--model.weights": self._classifier(),
        }
        config = "--config=configs/purification/mnist_lgap_finetune.yaml"
        train_once(
            folder / "report" / "results.json", folder, config, *(f"{key}={value}" for key, value in options.items())
        )
        return load_classifier(folder / "checkpoints" / "last.ckpt")

    def diffusion(self) -> str:
        """Folder or hub id of the latent diffusion model."""
        return self.given.diffusion or self._exported("latent_diffusion", "model_index.json")

    def captioner(self) -> str:
        """Folder or hub id of the captioner."""
        return self.given.captioner or self._exported("captioner", "config.json")

    def captions(self) -> Captions:
        """The captioner as a prompter."""
        return Captions(self.captioner(), beams=1, min_length=1, cache=str(self.run / "captions"))

    def kinds(self, model: nn.Module) -> dict[str, Callable[[int], Prompter]]:
        """What is said of an image of a class."""
        captions = self.captions()
        predicted = PredictedClass(model, [str(k) for k in range(10)], TEMPLATE)
        return {
            "caption": lambda label: captions,
            "nothing": lambda label: ConstantPrompt(),
            "predicted class": lambda label: predicted,
            "true class": lambda label: ConstantPrompt(TEMPLATE.format(label)),
        }

    def purifiers(self, prompts: Callable[[int], Prompter]) -> Purifiers:
        """One for every class, of the same networks."""
        how = {"strength": self.given.strength, "steps": self.given.evaluations, "guidance": self.given.guidance}
        purifier = LanguageGuidedDiffusion(self.diffusion(), **how)
        return [purifier.told(prompts(label)) for label in range(10)]

    def _classifier(self) -> Path:
        return self.given.classifier or checkpoint_of("MNIST", self.given.root, self.run / "classifier", MNIST_NET)

    def _exported(self, name: str, last_file: str) -> str:
        exported = self.run / name / "exported"
        config = f"--config=configs/purification/mnist_{name}.yaml"
        options = (config, f"--data.init_args.root={self.given.root}", f"--model.init_args.export={exported}")
        train_once(exported / last_file, self.run / name / "training", *options)
        return str(exported)
