"""Ranks that share out the images of a forward get the logits and gradients of one rank that asks about them all."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest
import torch
from torch import Tensor, nn

from lightning_adv.evaluation.shared_out import SharedOut
from lightning_adv.fooling import FoolingEvolution, FoolingGradient


class Asked(nn.Module):
    """A small net that counts the images it sees."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
        self.eval()
        self.images = 0

    def forward(self, image: Tensor) -> Tensor:
        self.images += len(image)
        return self.net(image)


def on_ranks(ranks: int, work) -> list:
    """What each rank's thread returns of ``work(model)``, and how many images its net saw.

    Threads share the global generator and the filters of warnings, as processes do not: one works at a time.
    """
    barrier, slots, turn = Barrier(ranks), [None] * ranks, Lock()
    nets = [Asked() for _ in range(ranks)]

    def rank_of(rank: int):
        def gather(own: Tensor) -> Tensor:
            slots[rank] = own
            wait()
            every = torch.cat(slots)
            wait()
            return every

        def wait() -> None:
            turn.release()
            barrier.wait()
            turn.acquire()

        with turn:
            return work(SharedOut(nets[rank], rank, ranks, gather)), nets[rank].images

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(rank_of, range(ranks)))


@pytest.mark.parametrize("images", [1, 4, 5])
def test_logits_and_gradients_are_those_of_one_rank(images):
    x = torch.rand(images, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def both(model):
        leaf = x.clone().requires_grad_(True)
        logits = model(leaf)
        return logits.detach(), torch.autograd.grad(logits.square().sum(), leaf)[0]

    expected = both(Asked())
    for found, seen in on_ranks(3, both):
        assert seen == -(-images // 3), "each rank asks about its share alone"
        assert all(torch.allclose(*each, atol=1e-6) for each in zip(found, expected, strict=True))


@pytest.mark.parametrize("method", [FoolingGradient(steps=4), FoolingEvolution(generations=3, population=8)])
def test_a_search_that_ranks_go_through_together_finds_what_one_finds(method):
    expected, alone = method(net := Asked(), (1, 4, 4)), net.images
    for found, seen in on_ranks(2, lambda model: method(model, (1, 4, 4))):
        assert torch.allclose(found.images, expected.images, atol=1e-5)
        assert torch.allclose(found.confidences, expected.confidences, atol=1e-5)
        assert seen < 0.8 * alone
