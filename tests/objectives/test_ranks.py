"""What an objective remembers is what all processes saw: two with half a batch remember what one with all does."""

import json

import pytest

from tests.processes import torchrun

SCRIPT = """
import json
import os

import torch
from torch import nn
from lightning_adv.attacks import PGD, WorstOf
from lightning_adv.objectives import EAT, IKL

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.distributed.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
x, y = torch.rand(8, 1, 2, 2), torch.arange(8) % 3
own = slice(rank, None, world)
still = PGD(eps=0.0, step_size=0.0, steps=1, start="clean")
told = {}
for name, objective in (("IKL", IKL(still)), ("EAT", EAT(WorstOf({"only": still})))):
    for epoch in (0.0, 0.5, 1.0):
        objective.at_epoch(epoch)
        objective(model, x[own], y[own])
    told[name] = {key: each.tolist() for key, each in objective.state_dict().items()}
every = [None] * world
torch.distributed.all_gather_object(every, told)
if rank == 0:
    print("told", json.dumps(every))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_remember_what_one_does(tmp_path):
    said = {}
    for ranks in (1, 2):
        out = torchrun(SCRIPT, tmp_path, ranks)
        said[ranks] = json.loads(
            next(line for line in out.splitlines() if line.startswith("told ")).removeprefix("told ")
        )
    first, second = said[2]
    assert first == second
    for name, state in said[1][0].items():
        for key, value in state.items():
            assert _flat(first[name][key]) == pytest.approx(_flat(value), abs=1e-5), (name, key)


def _flat(value):
    return [each for row in value for each in row] if isinstance(value, list) else value
