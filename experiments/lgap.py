"""Language Guided Adversarial Purification (Singh and Subramanyam, 2024): Tables 1, 3 and 4, on MNIST.

``python -m experiments.lgap --root data`` trains classifier, captioner and latent diffusion model by ``train.py``,
fine-tunes the classifier on purified images, and attacks; ``--quick`` with few images and short attacks. Real
checkpoints (a BLIP, a Stable Diffusion) are a folder or hub id in ``--captioner`` and ``--diffusion``. Resumable: every
network and every figure is kept under ``--run``.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.image_transformations import Cells
from experiments.lgap_tables import attacks_table, blind_table, caption_table, guidance_table, save_picture
from experiments.page import RESULTS, write_page
from lightning_adv.attacks import PGD, Attack, AutoAttack
from lightning_adv.data import MNIST, float_images
from lightning_adv.modules import ClassifierModule, load_classifier
from lightning_adv.purifiers import (
    Captions,
    ConstantPrompt,
    LanguageGuidedDiffusion,
    PredictedClass,
    Prompter,
    PurifiedClassifier,
    ThreatModel,
)
from lightning_adv.reports.run import run_info

TEMPLATE = "a photo of the digit {}"
CLASSIFIER = (
    "--data=MNIST",
    "--data.batch_size=128",
    "--data.eval_batch_size=500",
    "--model=ClassifierModule",
    "--model.backbone=mnist_cnn",
    '--model.backbone_options={"width": 32, "hidden": 128}',
    "--model.optimizer=torch.optim.Adam",
    "--model.optimizer.lr=0.001",
    "--trainer.max_epochs=8",
)
Purifiers = Sequence[LanguageGuidedDiffusion]
"""One for every class."""

INFORMED = (ThreatModel.BPDA, ThreatModel.BPDA_EOT, ThreatModel.ADAPTIVE)
DRAWS = 5


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        images: test images, as many of each class.
        steps: of PGD and BPDA.
        draws: that EOT averages over.
        tuned_on: purified training images.
    """

    images: int
    steps: int
    draws: int
    tuned_on: int


class ByClass(Cells):
    """Figures of images in batches of one class, so that an oracle can name it."""

    def __init__(self, folder: Path, model: nn.Module, data: tuple[Tensor, Tensor, Tensor], attack_draws: int) -> None:
        super().__init__(folder, model, data, (len(data[0]),) * 2, attack_draws)
        label = data[1]
        self.data = [tuple(part[label == k] for part in data) for k in label.unique().tolist()]

    def behind(
        self,
        kind: str,
        purifiers: Sequence[LanguageGuidedDiffusion],
        attack: str,
        how: Attack | None,
        threat: ThreatModel,
    ) -> list[float]:
        """Accuracy in each draw behind a purifier for every class."""
        wholes = [PurifiedClassifier(purifier, self.model) for purifier in purifiers]

        def right() -> list[Tensor]:
            attacked = self.blind(attack, how)
            if threat is not ThreatModel.BLIND:
                pairs = zip(wholes, self.data, strict=True)
                attacked = [whole.attacked(how, threat, *part, draws=self.attack_draws) for whole, part in pairs]
            triples = zip(wholes, attacked, self.data, strict=True)
            return [whole.judge(image, index, DRAWS).argmax(dim=2) == y for whole, image, (_, y, index) in triples]

        return self._kept(f"{kind} {attack} {threat}", right)


def main() -> None:
    """Train and measure what is missing, write the page."""
    given = _arguments().parse_args()
    started, run = datetime.now(UTC), Path(given.run)
    size = Size(given.images or 100, given.steps or 40, given.draws or 8, 20_000)
    if given.quick:
        size = Size(given.images or 30, given.steps or 10, given.draws or 2, 2_000)
    networks = Networks(run, given)
    models = {"as trained": networks.classifier(), "fine-tuned": networks.fine_tuned(size.tuned_on)}
    data = _test_images(given.root, size.images)
    attacks = {
        "pgd": PGD(given.eps, steps=size.steps),
        "pgd10": PGD(given.eps, steps=10),
        "autoattack": AutoAttack(given.eps),
    }
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for name, model in models.items():
        folder = run / f"{name} {size.images} {size.steps} {size.draws} {size.tuned_on} {given.eps:g}".replace(" ", "_")
        cells = ByClass(folder, model, data, size.draws)
        kinds = {kind: networks.purifiers(prompts) for kind, prompts in networks.kinds(model).items()}
        for attack, how in {"none": None, **attacks}.items():
            found[name, "undefended", attack, "blind"] = cells.undefended(attack, how)
            for kind, purifiers in kinds.items():
                found[name, kind, attack, "blind"] = cells.behind(kind, purifiers, attack, how, ThreatModel.BLIND)
        for kind, purifiers in kinds.items() if name == "fine-tuned" else ():
            for threat in INFORMED:
                if threat is ThreatModel.ADAPTIVE and kind != "caption" and not given.quick:
                    continue  # half an hour each on two cores
                found[name, kind, "pgd", threat.value] = cells.behind(kind, purifiers, "pgd", attacks["pgd"], threat)
    said = _said(networks.captions(), cells, attacks["pgd"])
    page = f"lgap{'_quick' * given.quick}"
    save_picture(_pictures(cells, kinds, attacks["pgd"]), model, RESULTS / f"{page}.png")
    tables = [blind_table(found), attacks_table(found), guidance_table(found), caption_table(*said)]
    command = ["python", "-m", "experiments.lgap", *sys.argv[1:]]
    info = run_info(0, str(run), started, finished=datetime.now(UTC), command=command)
    text = (
        f"{size.images} MNIST test images, Linf eps {given.eps:g}, {size.steps} steps, gradients under EOT the mean of "
        f"{size.draws} draws, every verdict the mean of {DRAWS} draws; t* = {given.strength:g}, {given.evaluations} "
        f"evaluations, guidance {given.guidance:g}. The paper's figures are of CIFAR-10 (WRN-28-10, 8/255) and "
        "ImageNet (ResNet-50, 4/255) with public checkpoints: they show the shape, not what small networks on MNIST "
        "should reach. Blind figures judge a transfer attack; a defence is worth the least figure of an attacker who "
        f"knows it.\n\n![clean, attacked and purified]({page}.png)"
    )
    print(write_page(page, "Language Guided Adversarial Purification", text, tables, info, "MNIST"))


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
        return _loaded(self._classifier_path())

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
            "--model.weights": self._classifier_path(),
        }
        config = "--config=configs/purification/mnist_lgap_finetune.yaml"
        train_once(
            folder / "report" / "results.json", folder, config, *(f"{key}={value}" for key, value in options.items())
        )
        return _loaded(folder / "checkpoints" / "last.ckpt")

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

    def _classifier_path(self) -> Path:
        if self.given.classifier:
            return Path(self.given.classifier)
        folder = self.run / "classifier"
        options = (*CLASSIFIER, "--seed_everything=0", f"--data.root={self.given.root}", "--trainer.callbacks+=Report")
        train_once(folder / "report" / "results.json", folder, *options)
        return folder / "checkpoints" / "last.ckpt"

    def _exported(self, name: str, last_file: str) -> str:
        exported = self.run / name / "exported"
        config = f"--config=configs/purification/mnist_{name}.yaml"
        options = (config, f"--data.init_args.root={self.given.root}", f"--model.init_args.export={exported}")
        train_once(exported / last_file, self.run / name / "training", *options)
        return str(exported)


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="data")
    arguments.add_argument("--run", default="runs/lgap")
    arguments.add_argument("--quick", action="store_true", help="30 images, 10 steps, 2 draws, 2,000 to fine-tune on")
    arguments.add_argument("--images", type=int, help="test images; default 100")
    arguments.add_argument("--steps", type=int, help="of PGD; default 40")
    arguments.add_argument("--draws", type=int, help="that EOT averages over; default 8")
    arguments.add_argument("--eps", type=float, default=0.2)
    arguments.add_argument("--strength", type=float, default=0.35)
    arguments.add_argument("--evaluations", type=int, default=4, help="of the network a purification")
    arguments.add_argument("--guidance", type=float, default=3.0)
    arguments.add_argument("--classifier", help="checkpoint; trained if not given")
    arguments.add_argument("--diffusion", help="folder or hub id of a Stable Diffusion; trained if not given")
    arguments.add_argument("--captioner", help="folder or hub id of a BLIP; trained if not given")
    return arguments


def train_once(done: Path, run: Path, *options: str) -> None:
    """By the command line, unless the file ``done`` says that it has been; an interrupted training goes on."""
    if not done.is_file():
        command = [sys.executable, "train.py", "fit", *options, f"--run={run}", "--ckpt_path=last"]
        subprocess.run(command, check=True)


def _loaded(checkpoint: Path) -> ClassifierModule:
    return load_classifier(checkpoint)


def _test_images(root: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As many images of each class, their labels and numbers; the same for every seed."""
    images = MNIST(root=root)
    images.setup()
    test = images.datasets["test"]
    chosen = torch.cat([(test.labels == k).nonzero()[: count // 10, 0] for k in range(10)])
    batch = test[chosen]
    return float_images(batch.image), batch.label, batch.index


def _said(captions: Captions, cells: ByClass, attack: Attack) -> tuple[list[str], list[str], list[int]]:
    """What the captioner says of clean and of attacked images, and their labels."""
    clean = [text for x, _, _ in cells.data for text in captions(x)]
    attacked = [text for x in cells.blind("pgd", attack) for text in captions(x)]
    return clean, attacked, torch.cat([y for _, y, _ in cells.data]).tolist()


def _pictures(cells: ByClass, kinds: dict[str, Purifiers], attack: Attack) -> tuple[dict[str, Tensor], Tensor]:
    """The first image of each class: clean, attacked blindly, purified by each kind of prompt; and labels."""
    x, y, index = (torch.cat([part[place][:1] for part in cells.data]) for place in range(3))
    attacked = torch.cat([images[:1] for images in cells.blind("pgd", attack)])
    rows = {"clean": x, "attacked": attacked}
    for kind, purifiers in kinds.items():
        purified = [purifier(attacked[k : k + 1], index[k : k + 1]) for k, purifier in enumerate(purifiers)]
        rows[f"purified:\n{kind}"] = torch.cat(purified)
    return rows, y


if __name__ == "__main__":
    main()
