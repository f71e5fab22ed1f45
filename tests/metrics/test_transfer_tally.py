"""The five counts of a transferred attack, whatever the batches."""

import torch

from lightning_adv.metrics.transfer_tally import TransferTally


def test_the_counts_are_those_of_their_definition_in_any_batches():
    clean = torch.tensor([1, 1, 1, 1, 0, 0]).bool()
    attacked = torch.tensor([1, 0, 0, 1, 0, 1]).bool()
    deceived = torch.tensor([1, 1, 0, 0, 1, 1]).bool()
    whole, parts = TransferTally(), TransferTally()
    whole.update(clean, attacked, deceived)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.update(clean[rows], attacked[rows], deceived[rows])
    assert whole.compute().tolist() == parts.compute().tolist() == [6, 4, 2, 2, 1]
