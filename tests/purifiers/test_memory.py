"""The exact gradient through a purifier takes the memory that it is allowed, whatever the size of the batch."""

import sys
import weakref
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_adv.attacks import PGD
from lightning_adv.errors import InputError
from lightning_adv.purifiers import DifferentiableJPEG, PurifiedClassifier, ThreatModel, TotalVariation
from lightning_adv.purifiers.gradients import HEAP

MIB = 2**20
PURIFIERS = {
    "tv": lambda memory: TotalVariation(steps=3, memory=HEAP * memory),  # of which its tensors are this much
    "jpeg": lambda memory: DifferentiableJPEG(75, memory=memory),
}
ALLOWED = {"tv": 0.3, "jpeg": 0.2}  # two or three of these images

every_purifier = pytest.mark.parametrize("name", PURIFIERS)


class Live(TorchDispatchMode):
    """Bytes of all tensors that are alive, made by operations inside, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self.known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for storage in (each.untyped_storage() for each in tree_leaves(made) if isinstance(each, Tensor)):
            if storage not in self.known:
                self.known.add(storage)
                self.bytes += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.bytes)
        return made

    def _gone(self, size: int) -> None:
        self.bytes -= size


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def gradient(purifier, count: int) -> tuple[Tensor, Tensor]:
    x = images(count).requires_grad_(True)
    purified = purifier(x, torch.arange(count))
    return purified.detach(), torch.autograd.grad((purified * images(count).flip(0)).sum(), x)[0]


def held(purifier, count: int) -> float:
    """MiB alive at most while the gradient is computed, but for what has the size of the batch."""
    with Live() as live:
        gradient(purifier, count)
    return (live.most - 10 * images(count).nbytes) / MIB


@every_purifier
def test_images_in_parts_have_the_gradients_of_the_whole_batch(name):
    whole, parts = gradient(PURIFIERS[name](1e6), 7), gradient(PURIFIERS[name](ALLOWED[name]), 7)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-6)
    assert whole[1].abs().sum() > 0


@every_purifier
def test_memory_is_what_is_allowed_for_few_images_and_for_many(name):
    few, many = (held(PURIFIERS[name](ALLOWED[name]), count) for count in (4, 12))
    assert many < 1.1 * few
    assert many < ALLOWED[name]


def test_an_attacker_who_averages_over_draws_holds_no_more_than_is_allowed_for_all_of_them():
    model, x, y = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)), images(4), torch.arange(4) % 2

    def most(memory: float) -> int:
        whole = PurifiedClassifier(PURIFIERS["tv"](memory), model)
        with Live() as live:
            whole.attacked(PGD(0.1, steps=1), ThreatModel.ADAPTIVE, x, y, draws=8)
        return live.most

    assert most(ALLOWED["tv"]) < 0.3 * most(1e6)


def test_without_a_bound_the_memory_of_total_variation_grows_with_the_batch():
    few, many = (held(TotalVariation(steps=3, memory=1e6), count) for count in (4, 12))
    assert many > 2.5 * few


def process_grows_by(count: int, memory: float) -> float:
    """MiB that a forked process, whose peak is what it begins with, takes beyond that for a gradient of photographs."""
    x = torch.rand(count, 3, 224, 224).requires_grad_(True)
    before = _of_process("VmRSS")
    torch.autograd.grad(TotalVariation(steps=10, memory=memory)(x, torch.arange(count)).sum(), x)
    return _of_process("VmHWM") - before


def _of_process(name: str) -> float:
    status = Path("/proc/self/status").read_text().split(f"{name}:")[1]
    return int(status.split()[0]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_takes_little_more_than_is_allowed_although_the_heap_finds_no_freed_block_again():
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(process_grows_by, 10, 300.0).result() < 2 * 300


@every_purifier
@pytest.mark.parametrize("memory", [0, -1.0, float("inf")])
def test_a_memory_that_cannot_be_meant_is_refused(name, memory):
    with pytest.raises(InputError, match="memory must be a positive number of MiB"):
        PURIFIERS[name](memory)
