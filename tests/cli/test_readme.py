"""The commands that the README shows, as a reader would type them."""

import re
import shlex

import pytest

from tests.cli.commands import ROOT, TINY, Outcome, run

TESTED = re.compile(r"<!-- tested: tests/cli/test_readme\.py .*?-->\s*```bash\n(.*?)```", re.DOTALL)


def examples() -> list[str]:
    (block,) = TESTED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    return block.strip().splitlines()


def test_the_readme_shows_three_overrides():
    assert len(examples()) == 3


@pytest.mark.parametrize("example", examples())
def test_an_override_of_the_readme_works(example):
    interpreter, script, *args = shlex.split(example)
    assert (interpreter, script) == ("python", "train.py")
    args = [str(ROOT / arg) if arg.startswith("configs/") else arg for arg in args]
    outcome: Outcome = run([*args, *TINY])
    assert outcome.status == 0, outcome.err
    assert "report: runs/demo/" in outcome.out
