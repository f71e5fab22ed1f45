"""How modules hold on to each other: no circles, no private reach, and nobody is asked what it happens to have."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.source_tree import asked_of, calls, imports, module_name, modules, name, source_files, syntax, workshop_files

pytestmark = pytest.mark.xdist_group("gates")  # one worker reads each file once

FILES = source_files()
WORKSHOP_FILES = workshop_files()

MAY_PROBE = {
    "callbacks/run_record.py": (1, "a logger's folder"),
    "lightning_adv/asking/modes.py": (1, "frozen TorchScript has no mode"),
    "lightning_adv/attacks/description.py": (1, "arguments of a constructor, by name; a stranger's class may lack one"),
    "lightning_adv/cli/classes.py": (1, "a dotted path, looked up without running it"),
    "lightning_adv/cli/stored_config.py": (1, "yaml may be built without its C library"),
    "lightning_adv/data/facts.py": (1, "what a stranger's datamodule tells of its images"),
    "lightning_adv/data/images.py": (1, "torchvision's folders name their files"),
    "lightning_adv/data/poisoned_sets.py": (3, "a named tuple; where torchvision's data sets keep labels"),
    "lightning_adv/data/wrapped.py": (1, "delegates to what is wrapped"),
    "lightning_adv/evaluation/share.py": (2, "a stranger's loader"),
    "lightning_adv/models/stem.py": (1, "networks of timm name their first layer"),
    "lightning_adv/models/weights.py": (1, "networks of timm tell their classes"),
    "lightning_adv/modules/classifier.py": (1, "networks of timm tell their classes"),
    "lightning_adv/modules/parameter_groups.py": (1, "networks of timm name weights that are not to decay"),
    "lightning_adv/modules/sharding.py": (
        1,
        "networks of diffusers are built by from_config, those of transformers not",
    ),
    "lightning_adv/purifiers/denoising.py": (2, "schedulers of diffusers, by name, that share no base"),
    "lightning_adv/reports/run.py": (1, "not every system has it"),
    "lightning_adv/results/kept.py": (2, "a dataclass by its fields"),
    "lightning_adv/results/result.py": (1, "properties of a row by name"),
}
"""Where something is asked whether it has an attribute, how often, and why a declared one would not do."""

MAY_IMPORT_LATE = {
    "callbacks/backdoor_inspection.py": "networks of every kind, for a reference that is a checkpoint",
    "callbacks/report.py": "the page, whose templates a run without one does not need",
    "callbacks/transfer_evaluation.py": "networks of every kind, for a source that is a checkpoint",
    "lightning_adv/__main__.py": "everything, for which a signal need not wait",
    "lightning_adv/attacks/substitute.py": "timm, for a substitute that is named",
    "lightning_adv/backdoors/label_consistent.py": "timm, for a network that is opened when training starts",
    "lightning_adv/cli/board.py": "the page, which a wrong option gets none of",
    "lightning_adv/cli/refused.py": "the page, which only a file with code gets",
    "lightning_adv/cli/front.py": "Lightning, which a help page does without",
    "lightning_adv/data/preparation.py": "timm, for data that match a network",
    "lightning_adv/modules/classifier.py": "timm, for a backbone that is named; torch's compiler",
    "lightning_adv/modules/stored.py": "timm, for the network of a checkpoint",
    "lightning_adv/objectives/hat.py": "timm, for a helper that is opened when training starts",
    "lightning_adv/results/robustness.py": "matplotlib, once there is something to draw",
}
"""Modules that import others of the package in a function, and what a start is spared by it."""

MAY_REACH = {
    "_BatchNorm": "the base of torch's normalisations",
    "_ConvNd": "the base of torch's convolutions",
    "_SubParsersAction": "argparse names its commands so",
    "_checkpoint_connector": "Lightning has no other way to a checkpoint of this moment",
    "_choices_actions": "argparse keeps the help of its commands there",
    "_lock": "rich has no other way to keep its thread from drawing in the midst of a print",
    "_exit": "os",
    "_functorch": "torch's compiler",
    "_get_allowed_globals": "torch says nowhere else what a file may ask for",
    "_get_default_store": "torch's process group has no other way to its store",
    "_inductor": "torch's compiler",
    "_pytree": "torch's compiler",
    "_replace": "a named tuple",
    "_signal_connector": "Lightning has no other way to its handlers of signals",
    "_weights_only_unpickler": "its home",
}
"""Private names of other packages that are used, and why."""


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        module_name(path): set(imports(path)) & (modules() - {module_name(path)}) for path in [*FILES, *WORKSHOP_FILES]
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]) + ": move what both need below them; an import in a function counts")


def _imports_late(path: Path) -> list[int]:
    """Lines in functions that import from the package."""
    functions = [node for node in ast.walk(syntax(path)) if isinstance(node, ast.FunctionDef)]
    inside = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
    return [node.lineno for node in inside if (node.module or "").split(".")[0] == "lightning_adv"]


@asked_of(FILES)
def test_a_module_of_the_package_is_imported_at_the_top_unless_that_would_cost_time(path):
    assert bool(_imports_late(path)) == (name(path) in MAY_IMPORT_LATE), f"lines {_imports_late(path)}"


@asked_of(FILES)
def test_an_object_is_not_asked_what_it_has(path):
    probes = [line for line, call, _ in calls(path) if call in ("getattr", "hasattr")]
    allowed, _ = MAY_PROBE.get(name(path), (0, ""))
    assert len(probes) == allowed, f"lines {probes}: declare the attribute on the base, or change MAY_PROBE"


def _reached(path: Path) -> dict[str, int]:
    """Private attributes of anything but the object itself that the file does not define, with their lines."""
    nodes = list(ast.walk(syntax(path)))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    reached = (
        node
        for node in nodes
        if isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr) and node.attr not in own
    )
    return {each.attr: each.lineno for each in reached if ast.unparse(each.value) not in ("self", "cls", "super()")}


@asked_of(FILES)
def test_nobody_reaches_for_what_is_private_to_another_file(path):
    found = {f"line {line}: {attribute}" for attribute, line in _reached(path).items() if attribute not in MAY_REACH}
    assert not found, "give the owner a public verb"


CHANGES = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort", "update"}


def _changed(path: Path) -> dict[str, int]:
    """What is assigned to, or changed by one of its methods, with its line."""
    places = [each for each in ast.walk(syntax(path)) if isinstance(each, ast.Attribute | ast.Subscript)]
    called = [call.func for _, _, call in calls(path) if isinstance(call.func, ast.Attribute)]
    changed = [each for each in places if not isinstance(each.ctx, ast.Load)]
    changed += [each.value for each in called if each.attr in CHANGES]
    return {ast.unparse(each): each.lineno for each in changed}


@asked_of(FILES)
def test_callbacks_are_put_in_order_in_one_place_and_a_result_is_changed_by_its_own_callback_alone(path):
    changed = _changed(path).items()
    ordered = {f"line {line}: {what}" for what, line in changed if re.search(r"\btrainer\.callbacks\b", what)}
    assert not ordered or name(path) == "lightning_adv/evaluation/order.py", "declare the order there"
    edited = {f"line {line}: {what}" for what, line in changed if re.search(r"(?<!\bself)\.result\b", what)}
    assert not edited, "say it of the other result in warnings_beside"


def test_the_exceptions_are_needed():
    assert MAY_PROBE.keys() <= set(map(name, FILES))
    assert MAY_REACH.keys() == {each for path in FILES for each in _reached(path)} & MAY_REACH.keys()
