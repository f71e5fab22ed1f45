"""Genomes of pattern-producing networks stay networks without cycles, and draw what their equation says."""

import math

import torch

from lightning_adv.fooling import CPPNGenomes, FoolingCPPN
from lightning_adv.fooling.fooling import Task


def search(channels: int = 1, side: int = 5) -> Task:
    return Task(lambda x: x.flatten(1), (channels, side, side), torch.arange(2), seed=0)


def test_the_drawing_is_the_composition_of_the_nodes():
    """x -> sine -> times 2 plus the distance -> line, by hand."""
    depth = torch.tensor([[0.0, 0, 0, 0, 1, 0.5, torch.inf]])
    weight = torch.zeros(1, 7, 7)
    weight[0, 5, 0], weight[0, 4, 5], weight[0, 4, 2] = 0.7, 2.0, 1.0
    function = torch.tensor([[0, 0, 0, 0, 3, 0, 2]])
    drawn = FoolingCPPN(hidden=2).expressed(search(), CPPNGenomes(depth, weight, function))[0, 0]
    axis = torch.linspace(-1, 1, 5)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    expected = 2 * (math.pi * 0.7 * x).sin() + (x**2 + y**2).sqrt()
    torch.testing.assert_close(drawn, 0.5 + 0.5 * expected.tanh())


def test_mutated_networks_have_no_cycle_and_grow_no_further_than_allowed():
    method, looking = FoolingCPPN(hidden=3, add_node=0.9, add_link=0.9), search(channels=3)
    genomes = method.born(looking, 50)
    for generation in range(30):
        genomes = method.mutated(looking, genomes, generation)
    linked = genomes.weight != 0
    upward = genomes.depth[:, :, None] > genomes.depth[:, None, :]
    assert bool((~linked | upward).all())
    assert bool(genomes.depth.isfinite()[:, :, None].expand_as(linked)[linked].all())
    assert genomes.depth.isfinite().sum(dim=1).amax() == 4 + 3 + 3
    assert bool((genomes.depth[:, :4] == 0).all() & (genomes.depth[:, 4:7] == 1).all())
    assert linked.sum() > 50 * 12


def test_a_split_link_keeps_its_ends():
    looking = search()
    method = FoolingCPPN(hidden=1, add_node=1.0, add_link=0.0, change_weights=0.0, change_function=0.0)
    before = method.born(looking, 20)
    after = method.mutated(looking, before, 1)
    for old, new in zip(before.weight, after.weight, strict=True):
        (gone,) = (old[4] != 0).logical_and(new[4] == 0).nonzero().flatten().tolist()
        assert new[5, gone] == 1
        assert new[4, 5] == old[4, gone]


def test_children_do_not_change_their_parents():
    looking, method = search(), FoolingCPPN()
    parents = method.born(looking, 5)
    kept = [part.clone() for part in parents]
    method.mutated(looking, parents, 1)
    assert all(torch.equal(a, b) for a, b in zip(kept, parents, strict=True))


def test_a_network_without_hidden_nodes_and_x_alone_draws_columns():
    depth = torch.tensor([[0.0, 0, 0, 0, 1]])
    weight = torch.zeros(1, 5, 5)
    weight[0, 4, 0] = 1.3
    drawn = FoolingCPPN(hidden=0).expressed(search(), CPPNGenomes(depth, weight, torch.zeros(1, 5, dtype=torch.int64)))
    assert torch.equal(drawn, drawn[:, :, :1].expand_as(drawn))
