"""The six counts of a transferred attack, whatever the batches."""

import torch

from lightning_adv.asking import NO_CLASS
from lightning_adv.results.transfer import TransferTally


def test_the_counts_are_those_of_their_definition_in_any_batches():
    label = torch.tensor([3, 3, 3, 3, 3, 0])
    clean = torch.tensor([3, 3, 3, 3, 1, NO_CLASS])
    attacked = torch.tensor([3, 0, NO_CLASS, 3, 0, 0])
    deceived = torch.tensor([1, 1, 0, 0, 1, 1]).bool()
    whole, parts = TransferTally(), TransferTally()
    whole.update(label, clean, attacked, deceived)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.update(label[rows], clean[rows], attacked[rows], deceived[rows])
    assert whole.compute().tolist() == parts.compute().tolist() == [6, 4, 2, 2, 1, 2]
