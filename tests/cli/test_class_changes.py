import pytest
from jsonargparse import Namespace

from lightning_adv.cli.class_changes import class_changes, may_be_changed

PGD = "lightning_adv.attacks.PGD"
FGSM = "lightning_adv.attacks.FGSM"


def spec(path: str, **arguments: object) -> Namespace:
    return Namespace(class_path=path, init_args=Namespace(**arguments))


@pytest.mark.parametrize(
    ("written", "after", "may"),
    [
        ("PGD", spec(PGD, steps=3), False),
        (PGD, spec(PGD, steps=3), False),
        ("PGD", spec(FGSM), True),
        ("attack.yaml", spec(PGD), True),
        ("attacks.yaml", [spec(PGD)], True),
        ("ddp", "auto", False),
        ({"class_path": "PGD", "init_args": {"eps": 0.1}}, spec(PGD, eps=0.2), False),
        ({"class_path": "PGD", "init_args": {"eps": 0.1}}, spec(FGSM, eps=0.1), True),
        ({"class_path": "PGD", "init_args": {"eps": 0.1}}, None, False),
        ({"init_args": {"eps": 0.1}}, spec(PGD, eps=0.1), True),
        ({"class_path": "SearchLow", "init_args": {"attack": "PGD"}}, spec("SearchLow", attack=spec(FGSM)), True),
        ({"attacks": {"weak": "PGD"}}, Namespace(attacks={"weak": spec(FGSM)}), True),
        ({"attacks": {"weak": "PGD"}}, Namespace(attacks={"weak": spec(PGD)}), False),
        ({"callbacks+": ["Report"]}, Namespace(callbacks=[spec("lightning_adv.callbacks.Report")]), False),
        ({"callbacks": ["Report"]}, Namespace(callbacks=[spec("lightning_adv.callbacks.EpochLine")]), False),
        ([{"class_path": "SearchLow", "init_args": {"attack": "PGD"}}], [spec("SearchLow", attack=spec(FGSM))], True),
        ({"model.attack": "PGD"}, Namespace(model=Namespace(attack=spec(PGD))), True),
    ],
)
def test_a_file_is_parsed_again_only_where_another_class_may_stand_in_it(written, after, may):
    assert may_be_changed(written, after) == may


@pytest.mark.parametrize("after", [spec(PGD, eps=0.2, steps=3), spec(FGSM, eps=0.2)])
def test_a_change_that_is_told_is_one_that_may_be(after):
    before = spec(PGD, eps=0.2, steps=3)
    written = {"class_path": "PGD", "init_args": {"eps": 0.2, "steps": 3}}
    assert bool([*class_changes(before, after)]) == may_be_changed(written, after) == (after.class_path == FGSM)
