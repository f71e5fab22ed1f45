import torch
import torch.nn.functional as F

from lightning_adv.results.purification_tally import DrawsTally


def one_hot_logits(said):
    """Confident logits [D, N, 3] of predictions [D, N]."""
    return 5.0 * F.one_hot(torch.tensor(said), 3).float()


def test_draws_are_counted_alone_by_mean_by_vote_and_all_together():
    tally = DrawsTally(num_classes=3, draws=3)
    tally.update(torch.tensor([0, 1, 2]), one_hot_logits([[0, 1, 0], [0, 2, 0], [0, 1, 2]]))
    counts = {name: value.tolist() for name, value in tally.compute().items()}
    assert counts["correct"] == [2, 1, 3]
    assert (counts["mean"], counts["vote"], counts["worst"], counts["samples"]) == (2, 2, 1, 3)
    assert counts["confusion"] == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_a_mean_and_a_vote_may_differ():
    tally = DrawsTally(num_classes=3, draws=3)
    logits = torch.tensor([[[0.0, 0.1, -9]], [[0.0, 0.1, -9]], [[9.0, 0.0, -9]]])
    tally.update(torch.tensor([0]), logits)
    counts = tally.compute()
    assert (int(counts["mean"]), int(counts["vote"])) == (1, 0)


def test_parts_add_up():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(4, (20,), generator=generator)
    logits = torch.randn(2, 20, 4, generator=generator)
    whole, parts = DrawsTally(4, 2), DrawsTally(4, 2)
    whole.update(label, logits)
    for chosen in torch.arange(20).split(6):
        parts.update(label[chosen], logits[:, chosen])
    assert all(torch.equal(value, parts.compute()[name]) for name, value in whole.compute().items())
