import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from lightning_adv.attacks import FGSM, PGD, AutoAttack, CarliniWagner, WorstOf
from lightning_adv.callbacks import AttackEvaluation
from lightning_adv.evaluation.verdict_journal import VerdictJournal, checksums, fingerprint
from tests.callbacks.strangers import PlainModule, images, trainer

EPS = 0.06
COUNT = 40


class Interrupted(Exception):
    """Stands for a kill: raised where an attack would begin with a batch."""


class Counting(PGD):
    """Notes the images it is run on, and stops before a batch if told so."""

    def __init__(self, stop_before: int | None = None) -> None:
        super().__init__(eps=EPS, steps=4)
        self.seen: list[int] = []
        self._stop = stop_before

    def __repr__(self) -> str:
        return "Counting"

    def run(self, model, x, y, *, target=None, index=None):
        if self._stop is not None and len(self.seen) >= self._stop:
            raise Interrupted
        self.seen += index.tolist()
        return super().run(model, x, y, target=target, index=index)


def evaluated(model, folder, attacks, dataset=None, **options):
    evaluation = AttackEvaluation(attacks, verdicts=folder and str(folder), batch_size=8, **options)
    loader = DataLoader(images(COUNT) if dataset is None else dataset, batch_size=8)
    trainer(evaluation).validate(model, loader, verbose=False)
    return evaluation.result


@pytest.fixture(autouse=True)
def _one_key(monkeypatch):
    """The counting attacks of a test differ in what they count, which is no setting."""
    from lightning_adv.callbacks import attack_evaluation

    monkeypatch.setattr(
        attack_evaluation,
        "fingerprint",
        lambda model, attacks, settings: fingerprint(model, {name: repr(each) for name, each in attacks.items()}, ""),
    )


def as_plain(result):
    data = result.as_dict()
    for row in data["attacks"]:
        for stage in row["stages"]:
            stage.pop("seconds")
    return data


def test_an_interrupted_evaluation_goes_on_without_doing_an_image_twice(model, tmp_path):
    whole = Counting()
    expected = evaluated(model, None, {"pgd": whole})
    first, second = Counting(stop_before=20), Counting()
    with pytest.raises(Interrupted):
        evaluated(model, tmp_path, {"pgd": first})
    assert 0 < len(first.seen) < len(whole.seen)
    result = evaluated(model, tmp_path, {"pgd": second})
    assert first.seen + second.seen == whole.seen
    assert as_plain(result) == as_plain(expected)
    torch.testing.assert_close(result.examples["pgd"].adversarial, expected.examples["pgd"].adversarial)


def test_a_line_that_was_cut_off_costs_its_batch_only(model, tmp_path):
    expected = evaluated(model, tmp_path, {"pgd": Counting()})
    (file,) = tmp_path.rglob("rank0.jsonl")
    text = file.read_text()
    file.write_text(text[: len(text) - 30])
    again, once_more = Counting(), Counting()
    assert as_plain(evaluated(model, tmp_path, {"pgd": again})) == as_plain(expected)
    assert again.seen == json.loads(text.splitlines()[-1])["index"]
    evaluated(model, tmp_path, {"pgd": once_more})
    assert once_more.seen == []


def test_another_batch_size_finds_the_same_verdicts(model, tmp_path):
    evaluated(model, tmp_path, {"pgd": Counting()})
    again = Counting()
    evaluation = AttackEvaluation({"pgd": again}, verdicts=str(tmp_path), batch_size=3)
    trainer(evaluation).validate(model, DataLoader(images(COUNT), batch_size=5), verbose=False)
    assert again.seen == []


def test_other_weights_are_attacked_anew_and_their_verdicts_replace_the_old_ones(model, tmp_path):
    evaluated(model, tmp_path, {"pgd": Counting()})
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    again = Counting()
    evaluated(model, tmp_path, {"pgd": again})
    assert again.seen
    assert len(list(tmp_path.glob("attacks/*"))) == 1


def test_a_folder_of_the_users_own_loses_nothing_but_old_journals(model, tmp_path):
    mine = tmp_path / "attacks" / "thesis" / "chapter.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    evaluated(model, tmp_path, {"pgd": Counting()})
    assert mine.read_text() == "years of work"


class NotANumber(PlainModule):
    """Its logits are NaN at class 0, which names no class at all."""

    def forward(self, x):
        return self.net(x) * torch.tensor([torch.nan, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("kept", [False, True])
def test_a_model_whose_logits_are_no_numbers_is_evaluated_too(tmp_path, kept):
    result = evaluated(NotANumber(), tmp_path if kept else None, {"pgd": Counting()})
    assert (result.clean_correct, result.samples) == (0, COUNT)
    assert any("NaN logits" in warning for warning in result.warnings)


def test_images_that_changed_are_attacked_anew(model, tmp_path):
    first = Counting()
    evaluated(model, tmp_path, {"pgd": first})
    changed, some = images(COUNT), first.seen[4]
    changed.tensors[0][some, 0, 0, 0] = 1 - changed.tensors[0][some, 0, 0, 0]
    again = Counting()
    evaluated(model, tmp_path, {"pgd": again}, changed)
    assert again.seen == [some]


def test_a_model_whose_code_changed_is_attacked_anew(model, tmp_path):
    evaluated(model, tmp_path, {"pgd": Counting()})
    again, sharper = Counting(), PlainModule()
    sharper.load_state_dict(model.state_dict())
    plain = sharper.net.forward
    sharper.net.forward = lambda x: 1.5 * plain(x)
    evaluated(sharper, tmp_path, {"pgd": again})
    assert len(again.seen) > COUNT / 2


def test_more_images_add_to_what_is_known(model, tmp_path):
    few = Counting()
    evaluated(model, tmp_path, {"pgd": few}, Subset(images(COUNT), range(10)))
    more = Counting()
    evaluated(model, tmp_path, {"pgd": more})
    assert min(more.seen) >= 10


def test_the_stages_of_an_ensemble_add_up_over_a_restart(model, tmp_path):
    suite = {"fgsm": FGSM(eps=0.02), "pgd": PGD(eps=EPS, steps=3)}
    expected = evaluated(model, None, {"suite": WorstOf(suite)})
    whole = evaluated(model, tmp_path, {"suite": WorstOf(suite)})
    again = evaluated(model, tmp_path, {"suite": WorstOf(suite)})
    (row,) = expected.attacks
    first, second = row.stages
    assert (first.name, second.name) == ("fgsm", "pgd")
    assert second.attacked == first.attacked - first.broken
    assert second.attacked - second.broken == row.robust_correct
    assert as_plain(whole) == as_plain(again) == as_plain(expected)
    assert "Attack by attack: suite" in [table.title for table in expected.tables()]


def test_ranks_that_are_gone_leave_their_lines_to_those_that_remain(tmp_path):
    model, (x, y) = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), images(4).tensors
    suite = WorstOf({"fgsm": FGSM(eps=0.01)})
    confidence, checks = torch.full((4,), 0.5), checksums(x, y)
    for rank in range(4):
        one = slice(rank, rank + 1)
        journal = VerdictJournal(tmp_path, "key", rank, ranks=4)
        result = suite.run(_flat(model), x[one], y[one], index=torch.tensor([rank]))
        journal.add("s", torch.tensor([rank]), checks[one], confidence[one], x[one], result, None)
    two = [VerdictJournal(tmp_path, "key", rank, ranks=2) for rank in range(2)]
    assert [len(journal) for journal in two] == [4, 4]
    assert [journal.stages("s")["fgsm"][0] for journal in two] == [2, 2]


def _flat(model):
    return lambda x: model(nn.functional.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), 8))


def test_the_key_knows_weights_structure_and_every_setting(model):
    def key(attack, settings="32-true"):
        return fingerprint(model, {"a": attack}, settings)

    base = key(AutoAttack(eps=EPS))
    assert base == key(AutoAttack(eps=EPS))
    others = [
        AutoAttack(eps=EPS, seed=1),
        AutoAttack(eps=EPS + 0.01),
        AutoAttack(eps=EPS, version="plus"),
        PGD(eps=EPS),
    ]
    keys = [base, *(key(other) for other in others), key(AutoAttack(eps=EPS), "bf16-mixed")]
    model.extra = nn.Identity()
    assert len({*keys, key(AutoAttack(eps=EPS))}) == len(keys) + 1


def test_a_minimal_norm_attack_gives_the_whole_curve_from_one_run(model):
    attack = CarliniWagner(steps=40, binary_search_steps=3, lr=0.05, initial_const=1.0)
    result = evaluated(model, None, {"cw": attack, "fgsm": FGSM(eps=0.01)})
    x, y = images(COUNT).tensors
    with torch.no_grad():
        right = model.eval()(x).argmax(dim=1) == y
    run = attack.run(model, x[right], y[right], index=right.nonzero().flatten())
    distance = torch.linalg.vector_norm((run.images - x[right]).flatten(1).double(), dim=1)
    distance[~run.success] = torch.inf
    for eps, accuracy in result.curves["cw"]:
        # at the very distance of an image the two ways to add up squares may differ in the last bit
        below = float((distance > eps * (1 + 1e-6)).sum()) / COUNT
        above = float((distance > eps * (1 - 1e-6)).sum()) / COUNT
        assert below - 1e-9 <= accuracy <= above + 1e-9
    assert result.curves["cw"][0] == (0.0, result.clean_accuracy)
    assert result.attacks[0].median_distance == pytest.approx(float(distance.median()))
    assert result.worst_case_correct == result.attacks[1].robust_correct > result.attacks[0].robust_correct
