"""Completion of the command line in a shell: a script that knows all names, so that a tab needs no Python."""

import inspect
from argparse import ArgumentParser

import shtab
from pytorch_lightning import Trainer

from lightning_adv.cli.catalogue import KINDS, MODELS, names_of
from lightning_adv.cli.configs import shipped_names
from lightning_adv.cli.document import JSON
from lightning_adv.cli.help import COMMANDS, OTHERS, PROGRAM_NAME
from lightning_adv.errors import InputError

__all__ = ["SHELLS", "completion"]

SHELLS = ("bash", "zsh", "tcsh")
FUNCTION = "_lightning_adv_config"
"""Completes a configuration's name or its file, in the shells that have functions."""


def completion(args: list[str]) -> None:
    """Print the script for a shell: ``completion bash``.

    Args:
        args: the command line without the program's name and the command.

    Raises:
        InputError: no shell, or one that is not known.
    """
    if args[:1] not in [[shell] for shell in SHELLS]:
        raise InputError(f"completion needs the name of a shell: {', '.join(SHELLS)}")
    names = " ".join(shipped_names())
    preamble = {
        "bash": f'{FUNCTION}() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}',
        "zsh": f"{FUNCTION}() {{ _alternative 'names:configuration:({names})' 'files:file:_files' }}",
    }
    print(shtab.complete(_parser(), args[0], preamble=preamble))


def _parser() -> ArgumentParser:
    """The commands, their options and the names that these take, as far as they are the same for every run."""
    parser = ArgumentParser(prog=PROGRAM_NAME)
    commands = parser.add_subparsers()
    parts = {name: commands.add_parser(name, help=text) for name, text in (COMMANDS | OTHERS).items()}
    kinds = {kind: names_of(kind) for kind in (*KINDS, MODELS)}
    for name in (*COMMANDS, "evaluate", "audit"):
        _add_options(parts[name], kinds)
    parts["audit"].add_argument("--budget")
    parts["audit"].add_argument("file").complete = shtab.FILE
    parts["leaderboard"].add_argument("runs", nargs="+").complete = shtab.FILE
    parts["leaderboard"].add_argument("--output").complete = shtab.DIRECTORY
    parts["leaderboard"].add_argument("--sort")
    parts["list"].add_argument("kind", choices=[*kinds])
    parts["help"].add_argument("name", choices=[*parts, *(name for kind in KINDS for name in kinds[kind])])
    parts["configs"].add_argument("name", choices=shipped_names())
    parts["completion"].add_argument("shell", choices=SHELLS)
    return parser


def _add_options(parser: ArgumentParser, kinds: dict[str, list[str]]) -> None:
    """Those of a command that runs a trainer."""
    config = {"bash": FUNCTION, "zsh": FUNCTION, "tcsh": "f:*"}
    parser.add_argument("-c", "--config").complete = config
    parser.add_argument("--run").complete = shtab.DIRECTORY
    parser.add_argument("--ckpt_path").complete = shtab.FILE
    for flag in (JSON, "--print_config"):
        parser.add_argument(flag, action="store_true")
    for option in ("--seed_everything", "--trust"):
        parser.add_argument(option)
    parser.add_argument("--model.backbone", choices=kinds[MODELS])
    for kind, what in KINDS.items():
        if what.chosen:
            parser.add_argument(what.chosen, choices=kinds[kind])
    for name in list(inspect.signature(Trainer.__init__).parameters)[1:]:
        parser.add_argument(f"--trainer.{name}")
