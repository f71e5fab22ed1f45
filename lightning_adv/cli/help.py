"""What the help pages say before and after the list of options, and how the list is set."""

import argparse
import re
import sys
from pathlib import Path

from jsonargparse import DefaultHelpFormatter

__all__ = [
    "AUDIT",
    "COMMANDS",
    "EVALUATE",
    "OTHERS",
    "PAGES",
    "PROGRAM",
    "PROGRAM_NAME",
    "TRAIN",
    "HelpFormatter",
    "as_called",
    "called",
]

COMMANDS = {
    "fit": "train a model; robust accuracy at every epoch end where the configuration asks for it",
    "validate": "one pass over the validation images",
    "test": "one pass over the test images",
}

OTHERS = {
    "evaluate": "attack a trained classifier and write a report",
    "audit": "does a file hold code or a backdoor, and what does its network withstand",
    "leaderboard": "set the results of many runs beside each other, on one page and in a CSV",
    "list": "list what can be named in a configuration: list, list attacks",
    "help": "what a class does, its arguments, and how to write it: help PGD",
    "configs": "list the configurations that come with the program; print or copy one: configs NAME [FILE]",
    "completion": 'a script that completes what you type: eval "$(lightning-adv completion bash)"; zsh and tcsh, too',
}
"""Commands of ``lightning-adv`` alone; in a checkout the first ones are scripts of these names."""

PROGRAM = {
    "description": "Train, attack, inspect and purify image classifiers.",
    "usage": "lightning-adv COMMAND [OPTION ...]",
    "epilog": """\
examples:
  lightning-adv fit --config demo
  lightning-adv evaluate --ckpt_path last --config evaluate/autoattack
  lightning-adv audit downloaded.pth --model.backbone=preact_resnet18 --data=CIFAR10
  lightning-adv help PGD                            what an attack does and how to write it
  lightning-adv configs cifar10_pgd my_own.yaml     a configuration to start from
  lightning-adv fit --help                          every option, with more examples
""",
}

TRAIN = {
    "description": "Train and test image classifiers that withstand attacks.",
    "epilog": """\
examples:
  python train.py fit --config configs/demo.yaml
  python train.py fit --help                        every option, with more examples
  python train.py fit --model.help ClassifierModule the arguments of a class
""",
}

_OVERRIDES = """\
settings come from configuration files and from the command line; what comes later overrides what comes before:
  --config configs/cifar10_pgd.yaml                 a whole run; give --config again to add to it
  --config configs/callbacks/ema.yaml               a callback more (its file says callbacks+:)
  --config configs/loggers/wandb.yaml               Weights & Biases; --trainer.logger.offline=true without an account
  --model.backbone=wide_resnet28_10                 any value by its dotted name, as it is nested in the file
  --model.objective.attack.eps=16/255               lengths are in pixel units of [0, 1], fractions are welcome
  --model.objective=TRADES --model.objective.beta=3 another class by its name; its arguments follow
  --trainer.callbacks.attacks.pgd20.steps=50        an argument of the last callback that has it
  --trainer.callbacks.Report.title=Mine             of the last callback of that class
  --trainer.callbacks+=ModelSummary                 a callback more by its name
  --trainer.callbacks=[...]                         in place of those there were, as a list in a later file is
  --print_config                                    show the outcome instead of running it
"""

FIT = {
    "usage": "python train.py fit [--config FILE ...] [--run FOLDER] [--ckpt_path last] [--NAME.NAME VALUE ...]",
    "description": f"Train a model. All it leaves goes into a folder, runs/<configuration>/<time>.\n\n{_OVERRIDES}",
    "epilog": """\
examples:
  python train.py fit --config configs/demo.yaml
  python train.py fit --config configs/cifar10_pgd.yaml --trainer.devices=8 --run runs/my_run
  python train.py fit --config configs/cifar10_pgd.yaml --run runs/my_run --ckpt_path last     (resume it)
  python train.py fit --config runs/my_run/config.yaml --seed_everything=1                     (repeat it)
  python -m lightning_adv list attacks                             (what can be named, kind by kind)
  python -m lightning_adv help PGD                                 (its arguments, and how to write it)
  torchrun --nproc-per-node=8 -- train.py fit --config configs/cifar10_pgd.yaml --run runs/my_run
""",
}

_PASS = """\
Run the trained model of a checkpoint once over the {images} images. Model and data are those of the checkpoint where
nothing else is said; its configuration may name classes of your own if you add --trust my_package.

examples:
  python train.py {name} --ckpt_path runs/my_run/checkpoints/last.ckpt
  python train.py {name} --ckpt_path runs/my_run/checkpoints/last.ckpt --data=MNIST --data.root=data
"""

EVALUATE = {
    "usage": "python evaluate.py --ckpt_path FILE [--config FILE ...] [--trust PACKAGE ...] [--NAME.NAME VALUE ...]",
    "description": """\
Attack a trained classifier on the test images and write a report. Model and data are those of the checkpoint, the
attacks those it was trained with (else configs/evaluate/standard.yaml), where nothing else is said.

A checkpoint is data: nothing in it is executed, and its configuration may name only the classes of this project and a
few of torch, Lightning and Kornia. Classes of your own are let in by --trust my_package (or module, or class; again for
more of them). Where something is written is never taken from a checkpoint.""",
    "epilog": """\
examples:
  python evaluate.py --ckpt_path runs/my_run/checkpoints/last.ckpt
  python evaluate.py --ckpt_path runs/my_run/checkpoints/last.ckpt --config configs/evaluate/standard.yaml
  python evaluate.py --ckpt_path runs/my_run/checkpoints/last.ckpt --trainer.callbacks.attacks.pgd20.steps=100
  python evaluate.py --ckpt_path runs/my_run/checkpoints/last.ckpt --trust my_package
  python evaluate.py --ckpt_path weights.safetensors --model.backbone=preact_resnet18 --data=CIFAR10
""",
}

AUDIT = {
    "usage": "python audit.py FILE [--budget MINUTES] [--config FILE ...] [--trust PACKAGE ...] [--NAME.NAME VALUE]",
    "description": """\
Ask a stranger's file three questions and write one page: does it hold code, does its network hide a backdoor, how
robust is it? Model and data are those of the checkpoint where nothing else is said; the evaluations are those of
configs/evaluate/audit.yaml, cut to --budget minutes (10; null for all of them).

Nothing in the file is executed. One that holds code gets a page that says which, and exit status 3.""",
    "epilog": """\
examples:
  python audit.py downloaded.ckpt
  python audit.py downloaded.pth --model.backbone=preact_resnet18 --data=CIFAR10 --budget 30
  python audit.py downloaded.pth --model.backbone=mnist_cnn --data=MNIST --trainer.callbacks.attacks.autoattack.eps=0.1
""",
}

PAGES = {
    "fit": FIT,
    "validate": {
        "usage": "python train.py validate --ckpt_path FILE [--config FILE ...] [--NAME.NAME VALUE ...]",
        "description": _PASS.format(images="validation", name="validate"),
    },
    "test": {
        "usage": "python train.py test --ckpt_path FILE [--config FILE ...] [--NAME.NAME VALUE ...]",
        "description": _PASS.format(images="test", name="test"),
    },
}


PROGRAM_NAME = "lightning-adv"
SCRIPT = re.compile(r"python (?:(train|evaluate|audit)\.py|-m lightning_adv)")
LAUNCHED = re.compile(r"-- train\.py")
NOTE = " (note the --)"
"""What torchrun needs before a script alone."""
SHIPPED = re.compile(r"configs/(\S+)\.yaml")


def called() -> list[str]:
    """The words that started this program, up to what belongs to the command: ``["python", "train.py"]``."""
    script, *args = sys.argv
    if not _is_program():
        return ["python", script]
    words = [PROGRAM_NAME] if Path(script).stem == PROGRAM_NAME else ["python", "-m", "lightning_adv"]
    return [*words, *(args[:1] if args[:1] and args[0] in OTHERS else [])]


def as_called(text: str) -> str:
    """A text that speaks of scripts and files of a checkout, in the words of the program if it is that which runs."""
    if not _is_program():
        return text
    text = SCRIPT.sub(lambda found: PROGRAM_NAME + ("" if found[1] in (None, "train") else f" {found[1]}"), text)
    text = LAUNCHED.sub("-m lightning_adv", text).replace(NOTE, "")
    return SHIPPED.sub(r"\1", text)


def _is_program() -> bool:
    script = Path(sys.argv[0])
    return script.stem == PROGRAM_NAME or script.parts[-2:] == ("lightning_adv", "__main__.py")


class HelpFormatter(DefaultHelpFormatter):
    """Help that keeps the line breaks of descriptions and names classes without their modules."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        text = re.sub(r"\b(?:lightning_adv|pytorch_lightning|torch)(?:\.\w+)*\.(\w+)", r"\1", text)
        text = re.sub(r"(known subclasses: )(LightningModule|LightningDataModule), ", r"\1", text)
        text = re.sub(r"Optional\[(\w+)\]|(\w+) \| null", r"\1\2", text)
        return re.sub(r" \(default: null\)|, default: null\b", "", text)
