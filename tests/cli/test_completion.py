import shutil
import subprocess

import pytest

from lightning_adv.cli import program
from lightning_adv.cli.completion import SHELLS
from lightning_adv.cli.configs import shipped_names
from tests.cli.commands import run

BASH = shutil.which("bash")
COMPLETE = """
source /dev/stdin
COMP_WORDS=({words}) COMP_CWORD={last}
_shtab_lightning_adv
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script() -> str:
    outcome = run(["completion", "bash"], program)
    assert outcome.status == 0, outcome.err
    return outcome.out


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("ev", {"evaluate"}),
        ("fit --config dem", {"demo"}),
        ("evaluate --config evaluate/rob", {name for name in shipped_names() if name.startswith("evaluate/rob")}),
        ("help Auto", {"AutoAttack"}),
        ("list att", {"attacks"}),
        ("fit --model.objective TRA", {"TRADES"}),
        ("fit --model.backbone preact", {"preact_resnet18"}),
        ("test --trainer.max_ep", {"--trainer.max_epochs"}),
        ("completion z", {"zsh"}),
        ("audit --budg", {"--budget"}),
    ],
)
def test_bash_completes_commands_names_and_options_without_python(script, typed, found):
    words = ["lightning-adv", *typed.split()]
    asks = COMPLETE.format(words=" ".join(f"'{word}'" for word in words), last=len(words) - 1)
    done = subprocess.run([BASH, "-c", asks], input=script, capture_output=True, text=True, env={"PATH": ""})
    assert set(done.stdout.split()) == found, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script_with_all_configurations(shell):
    text = run(["completion", shell], program).out
    assert "lightning-adv" in text
    assert "robustbench" in text or shell == "tcsh"  # which completes files alone there


@pytest.mark.parametrize("args", [[], ["fish"]])
def test_another_shell_is_answered_with_those_there_are(args):
    outcome = run(["completion", *args], program)
    assert (outcome.status, outcome.err) == (2, "error: completion needs the name of a shell: bash, zsh, tcsh\n")
