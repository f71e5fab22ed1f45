import torch

from lightning_adv.asking import NO_CLASS
from lightning_adv.results.backdoor import BackdoorTally


def test_batches_add_up_to_the_tables_of_label_and_prediction():
    generator = torch.Generator().manual_seed(0)
    label, clean, triggered = (torch.randint(4, (50,), generator=generator) for _ in range(3))
    clean[::9] = triggered[::7] = NO_CLASS
    tally = BackdoorTally(4)
    for part in torch.arange(50).split(7):
        tally.update(label[part], clean[part], triggered[part])
    for table, prediction in zip(tally.compute(), (clean, triggered), strict=True):
        by_hand = [[int(((label == k) & (prediction == p)).sum()) for p in (0, 1, 2, 3, NO_CLASS)] for k in range(4)]
        assert table.tolist() == by_hand
