import pytest
import torch

from lightning_adv.results.robustness_tally import AttackTally, CleanTally

CLASSES = 3


def clean_batch(count, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, CLASSES, generator=generator)
    label = torch.randint(CLASSES, (count,), generator=generator)
    correct = logits.argmax(dim=1) == label
    return logits, label, correct & (torch.rand(count, generator=generator) < 0.5)


def attack_batch(count, seed):
    """Labels, verdicts and confidences of all; sizes, restarts and zero gradients of the correct ones."""
    generator = torch.Generator().manual_seed(seed)
    logits, label, _ = clean_batch(count, seed)
    correct = logits.argmax(dim=1) == label
    attacked = int(correct.sum())
    restart = torch.randint(-1, 2, (attacked,), generator=generator)
    robust = correct.clone()
    robust[correct] = restart < 0
    sizes = torch.rand(attacked, 3, generator=generator, dtype=torch.double)
    zero = torch.rand(attacked, generator=generator) < 0.3
    return label, robust, torch.rand(count, generator=generator), sizes, restart, zero


def test_clean_counts_are_by_class_and_add_up_over_batches():
    tally, batches = CleanTally(CLASSES), [clean_batch(20, seed) for seed in range(3)]
    for batch in batches:
        tally.update(*batch)
    counts, confidence = tally.compute()
    logits, label, always = (torch.cat(part) for part in zip(*batches, strict=True))
    for k in range(CLASSES):
        mine = label == k
        hits = (logits.argmax(dim=1) == label) & mine
        assert counts[:, k].tolist() == [int(mine.sum()), int(hits.sum()), int((always & mine).sum())]
    assert torch.equal(confidence, logits.softmax(dim=1).amax(dim=1))


def test_sizes_are_summed_over_successes_only():
    tally = AttackTally(CLASSES)
    batch = attack_batch(40, seed=0)
    tally.update(*batch)
    found = tally.compute()
    label, robust, confidence, sizes, restart, zero = batch
    success = restart >= 0
    assert found["correct"].tolist() == [int((robust & (label == k)).sum()) for k in range(CLASSES)]
    assert found["counts"].tolist() == [len(sizes), int(success.sum()), int((restart == 0).sum()), int(zero.sum())]
    assert found["sums"].tolist() == pytest.approx(sizes[success].sum(dim=0).tolist())
    assert torch.equal(found["confidence"], confidence)


def test_two_tallies_merge_into_that_of_all_batches():
    batches = [attack_batch(15, seed) for seed in (1, 2)]
    whole, parts = AttackTally(CLASSES), [AttackTally(CLASSES), AttackTally(CLASSES)]
    for part, batch in zip(parts, batches, strict=True):
        part.update(*batch)
        whole.update(*batch)
    parts[0].merge_state(parts[1])
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts[0].compute()[name].sort().values, value.sort().values, msg=name)


def test_a_batch_in_which_nothing_was_attacked_counts_as_wrong():
    tally = AttackTally(CLASSES)
    nothing = torch.zeros(0, 3)
    none = torch.zeros(0, dtype=torch.long)
    tally.update(torch.tensor([0, 1]), torch.tensor([False, False]), torch.ones(2), nothing, none, none.bool())
    found = tally.compute()
    assert (found["correct"].sum(), found["counts"].sum(), len(found["confidence"])) == (0, 0, 2)
