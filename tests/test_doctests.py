"""The examples of the docstrings run, and every public class of the algorithms has one."""

import doctest
import importlib
import inspect
import pkgutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

import lightning_adv
import lightning_adv.attacks
import lightning_adv.backdoors
import lightning_adv.detectors
import lightning_adv.fooling
import lightning_adv.inspectors
import lightning_adv.mitigations
import lightning_adv.objectives
import lightning_adv.purifiers
import lightning_adv.scans
import lightning_adv.victims

MODULES = sorted(module.name for module in pkgutil.walk_packages(lightning_adv.__path__, "lightning_adv."))
WITH_EXAMPLES = [name for name in MODULES if ">>>" in Path(find_spec(name).origin).read_text(encoding="utf-8")]
ALGORITHMS = (
    lightning_adv.attacks,
    lightning_adv.backdoors,
    lightning_adv.detectors,
    lightning_adv.fooling,
    lightning_adv.inspectors,
    lightning_adv.mitigations,
    lightning_adv.objectives,
    lightning_adv.purifiers,
    lightning_adv.scans,
    lightning_adv.victims,
)
PUBLIC_CLASSES = [
    getattr(package, name)
    for package in ALGORITHMS
    for name in package.__all__
    if inspect.isclass(getattr(package, name))
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(name):
    module = importlib.import_module(name)
    names = {"torch": torch, "nn": nn, **vars(module)}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for example in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names):
            runner.run(example, out=report.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("public", PUBLIC_CLASSES, ids=lambda public: public.__name__)
def test_every_public_class_of_the_algorithms_has_an_example(public):
    assert doctest.DocTestParser().get_examples(public.__doc__), f"{public.__name__} has no >>> example"


def test_the_search_for_examples_reaches_every_package():
    assert {"lightning_adv.attacks.pgd", "lightning_adv.objectives.trades"} <= set(WITH_EXAMPLES)
