"""A disk that is full ends a run with one line, and what was written before stays whole."""

import resource
from pathlib import Path

import torch

from tests.cli.commands import DEMO, TINY, run

LARGER = "--model.backbone_options={width: 8, hidden: 256}"  # a checkpoint larger than any picture
FIT = ["fit", "--config", DEMO, *TINY, LARGER, "--trainer.logger=false"]


def one_line(outcome) -> str:
    assert outcome.status == 2, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if not line.startswith(("note: ", "run folder: "))]
    return line


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before():
    assert run([*FIT, "--run=here"]).status == 0
    last = Path("here/checkpoints/last.ckpt")
    before, size = last.read_bytes(), last.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))  # the nearest to a full disk
    try:
        outcome = run([*FIT, "--run=here", "--ckpt_path=last", "--trainer.max_epochs=2"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert one_line(outcome).startswith("error: cannot write here/checkpoints/last.ckpt: File too large; ")
    assert last.read_bytes() == before
    assert torch.load(last, weights_only=True)["epoch"] == 0
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
