"""A result survives a checkpoint, and nothing else can be made to come out of one."""

import io
from dataclasses import dataclass, field

import pytest
import torch

from lightning_adv.reports.storage import section_document
from lightning_adv.results.kept import as_state, from_state
from lightning_adv.results.result import EvaluationResult, Table
from tests.results.samples import examples


def through_a_checkpoint(result):
    torch.save(as_state(result), file := io.BytesIO())
    file.seek(0)
    return from_state(torch.load(file, weights_only=True))


def test_a_result_comes_back_with_its_pictures(robustness):
    result = robustness(
        curves={"pgd": [(0.1, 0.7), (0.2, 0.5)]}, examples={"pgd": examples()}, clean_confidences=(0.5,) * 100
    )
    back = through_a_checkpoint(result)
    assert type(back) is type(result)
    assert section_document(back, []) == section_document(result, [])
    assert [each.name for each in back.pictures()] == [each.name for each in result.pictures()]
    assert torch.equal(back.examples["pgd"].adversarial, result.examples["pgd"].adversarial)
    assert back.curves == result.curves, "tuples stay tuples"


@dataclass
class Own(EvaluationResult):
    """A result of somebody else's."""

    parts: dict = field(default_factory=dict)

    def scalars(self):
        return {}

    def tables(self):
        return [Table("one", ["a"], [[1]])]

    def as_dict(self):
        return {}


def test_a_result_of_somebody_else_comes_back_if_it_is_plain():
    back = through_a_checkpoint(Own("Mine", parts={3: (1, [2.5, None]), "class": {"tuple": True}}))
    assert back == Own("Mine", parts={3: (1, [2.5, None]), "class": {"tuple": True}})
    assert as_state(Own("Mine", parts={"model": torch.nn.Identity()})) is None


@dataclass
class Wary(Own):
    """Adds to its warnings when it is made."""

    def __post_init__(self):
        self.warnings = [*self.warnings, "take care"]


def test_what_a_result_adds_to_its_warnings_does_not_double():
    assert through_a_checkpoint(through_a_checkpoint(Wary("Mine", warnings=["nan"]))).warnings == ["nan", "take care"]


def test_a_class_that_is_gone_is_no_result(robustness):
    state = as_state(robustness()) | {"class": "lightning_adv.results.robustness:Earlier"}
    assert from_state(state) is None


@pytest.mark.parametrize("name", ["subprocess:Popen", "os:system", "builtins:eval", "shutil:rmtree", "a.b:C"])
def test_no_other_class_is_built(robustness, name):
    state = as_state(robustness())
    assert from_state({"class": name, "args": "touch x", "shell": True}) is None
    with pytest.raises(TypeError, match="is no part of a result"):
        from_state(state | {"attacks": [{"class": name, "args": "touch x", "shell": True}]})
