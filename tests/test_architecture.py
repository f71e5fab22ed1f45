"""The house rules that a reader relies on: imports point down, algorithms are free of the Trainer, files are short."""

import ast
import re

import pytest

from tests.source_tree import (
    CALLBACKS,
    ROOT,
    TESTS,
    asked_of,
    calls,
    imports,
    module_name,
    name,
    source_files,
    syntax,
    workshop_files,
)

pytestmark = pytest.mark.xdist_group("gates")  # one worker reads each file once

FLOORS = (
    ("__main__",),
    ("cli",),
    ("callbacks",),
    ("reports", "evaluation"),
    ("results",),
    ("modules",),
    ("data",),
    ("mitigations", "scans"),
    ("objectives", "inspectors", "detectors"),
    ("backdoors", "fooling", "purifiers", "victims"),
    ("attacks",),
    ("models", "metrics"),
    ("asking", "files", "pictures", "pixels"),
    ("errors", "interruption", "names", "screen"),
)
"""Packages from top to bottom. A package imports from lower floors, never from its own neighbours or from above."""

FREE_OF_THE_TRAINER = (
    "asking",
    "attacks",
    "backdoors",
    "detectors",
    "errors",
    "files",
    "fooling",
    "inspectors",
    "interruption",
    "metrics",
    "mitigations",
    "models",
    "names",
    "objectives",
    "pixels",
    "purifiers",
    "results",
    "scans",
    "screen",
    "victims",
)
TRAINER_AND_LOGGERS = ("pytorch_lightning", "lightning", "lightning_fabric", "wandb", "tensorboard", "jsonargparse")

BANNED_CALLS = {
    "pickle.load": "a pickle runs code",
    "pickle.loads": "a pickle runs code",
    "time.sleep": "wait for the event instead",
    "eval": "parse instead",
    "exec": "parse instead",
}
SEEDS_EVERYBODY = ("random.seed", "np.random.seed", "numpy.random.seed", "torch.manual_seed", "seed_everything")
MAY_SEED = {
    "lightning_adv/attacks/randomised.py": "fresh draws of a randomised model, with the generators restored",
    "lightning_adv/attacks/substitute.py": "first weights and dropout of a substitute, with the generators restored",
    "lightning_adv/data/images.py": "transforms of other libraries draw from the global generators; it restores them",
    "lightning_adv/modules/seeded.py": "makes every training step's noise a function of its number, for resuming",
}

WRITES = {"write_text", "write_bytes", "save_file", "touch", "NamedTemporaryFile", "mkstemp"}
WRITES_INTO = {"torch.save", "np.save", "np.savez", "np.savez_compressed", "savefig", "save_pretrained", "json.dump"}
MOVES = {"os.replace", "os.rename", "shutil.move", "shutil.copy", "shutil.copyfile", "shutil.copy2", "rename"}
MAY_WRITE = {
    "lightning_adv/files.py": "what all others go through",
    "lightning_adv/results/figures.py": "into memory",
    "benchmarks/kills.py": "what a process prints that it will kill",
    "benchmarks/reliability.py": "inputs of the runs that it kills, in a folder that nobody keeps",
}
CLASSIFIERS = {"model", "net", "classifier", "backbone", "oracle", "source", "victim", "expert", "pl_module"}
"""Names under which the package holds a classifier."""
MAY_CALL = {
    "lightning_adv/asking/forward.py": "the one forward",
    "lightning_adv/models/factory.py": "tries a network that it has just built, and names it in what it refuses",
    "lightning_adv/models/normalize.py": "the forward of a module",
    "lightning_adv/models/transformers_folder.py": "the forward of a module",
    "lightning_adv/modules/classifier.py": "the forward of a module",
}
MAY_CHOOSE = {
    "lightning_adv/asking/prediction.py": "the one rule",
    "lightning_adv/attacks/jsma.py": "a class to aim at, not the label",
    "lightning_adv/attacks/labels.py": "the likeliest class of a distribution that is given as a label",
    "lightning_adv/detectors/kernel_density.py": "a bandwidth",
    "lightning_adv/detectors/sprt.py": "the first mutation that decides",
    "lightning_adv/fooling/cppn.py": "nodes of a network",
    "lightning_adv/inspectors/outliers.py": "a norm",
    "lightning_adv/results/purification_tally.py": "the class of most votes",
    "lightning_adv/victims/decision_tree_attack.py": "the class of a leaf, which holds no NaN",
}

FILES = source_files()
TEST_FILES = sorted(TESTS.rglob("*.py"))
WORKSHOP_FILES = workshop_files()
ENTRY_POINTS = [ROOT / "train.py", ROOT / "evaluate.py", ROOT / "audit.py"]


def package_of(module: str) -> str:
    """``attacks`` for ``lightning_adv.attacks.pgd``."""
    return module.split(".")[1] if "." in module else ""


def floor_of(package: str) -> int:
    """Number of the floor, counted from the top."""
    return next(number for number, packages in enumerate(FLOORS) if package in packages)


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of the packages or lies in one."""
    return module.split(".")[0] in packages


def test_every_package_has_its_floor():
    known = {package for packages in FLOORS for package in packages}
    there = {package_of(module_name(path)) for path in FILES} - {""}
    assert there <= known, f"put {there - known} on a floor of FLOORS"


@asked_of(FILES)
def test_imports_point_down_only(path):
    own = package_of(module_name(path))
    if not own:
        return  # the lazy top level, which imports a package when asked for it
    others = {package_of(each) for each in imports(path) if is_within(each, ("lightning_adv",))} - {own, ""}
    upward = sorted(other for other in others if floor_of(other) <= floor_of(own))
    assert not upward, f"{name(path)} is in {own}, which must not import {upward}"


@asked_of([p for p in FILES if package_of(module_name(p)) in FREE_OF_THE_TRAINER])
def test_algorithms_do_not_import_lightning_or_a_logger(path):
    named = imports(path, annotations_too=True)
    assert not [each for each in named if is_within(each, TRAINER_AND_LOGGERS)]


@asked_of([*FILES, *WORKSHOP_FILES, *TEST_FILES, *ENTRY_POINTS])
def test_the_callbacks_are_imported_by_their_one_name(path):
    wrong = [each for each in imports(path, annotations_too=True) if is_within(each, ("callbacks",))]
    assert not wrong, "write lightning_adv.callbacks: a second name makes every class twice"


def test_the_callbacks_are_a_real_folder_that_the_package_links_to():
    link = ROOT / "lightning_adv" / "callbacks"
    assert link.resolve() == CALLBACKS
    assert not CALLBACKS.is_symlink()


@asked_of([*FILES, *WORKSHOP_FILES, *TEST_FILES])
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 400


@asked_of([*FILES, *WORKSHOP_FILES, *ENTRY_POINTS])
def test_no_call_that_the_house_forbids(path):
    found = {f"line {line}: {call}: {BANNED_CALLS[call]}" for line, call, _ in calls(path) if call in BANNED_CALLS}
    assert not found


@asked_of([path for path in FILES if name(path) not in MAY_SEED])
def test_the_global_generators_are_not_seeded(path):
    found = {f"line {line}: {call}" for line, call, _ in calls(path) if call in SEEDS_EVERYBODY}
    assert not found, "use a generator of your own, or enter the reason in MAY_SEED"


@asked_of([*FILES, *ENTRY_POINTS, *WORKSHOP_FILES])
def test_checkpoints_are_loaded_as_data(path):
    for line, call, node in calls(path):
        assert not call.endswith("load_from_checkpoint"), (
            f"line {line}: load_from_checkpoint builds the classes that the file names; use load_classifier"
        )
        keywords = {each.arg: ast.unparse(each.value) for each in node.keywords}
        assert call != "torch.load" or keywords.get("weights_only") == "True", (
            f"line {line}: torch.load without weights_only=True runs the code in the file"
        )


@asked_of(sorted(CALLBACKS.rglob("*.py")))
def test_a_name_becomes_that_of_a_file_by_one_function(path):
    """Names of attacks, inspectors and callbacks are a user's or a stranger's."""
    for node in (
        node for node in ast.walk(syntax(path)) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    ):
        parts = [each.value for each in ast.walk(node.right) if isinstance(each, ast.FormattedValue)]
        parts += [node.right] if isinstance(node.right, ast.Name | ast.Attribute) else []
        named = [
            ast.unparse(part) for part in parts if re.search(r"(^|[._])(name|attack|source|title)$", ast.unparse(part))
        ]
        assert not named, f"line {node.lineno}: {named} must go through lightning_adv.names.file_name"


@asked_of([p for p in FILES if package_of(module_name(p)) in FREE_OF_THE_TRAINER])
def test_gradients_are_asked_for_not_accumulated(path):
    wrong = [line for line, call, _ in calls(path) if call.endswith(".backward")]
    assert not wrong, f"lines {wrong}: .backward() writes into .grad of the model; use torch.autograd.grad"


def _writes(call: str, node: ast.Call) -> bool:
    """Whether a call opens a file for writing, or moves one into place."""
    last = call.rpartition(".")[2]
    if call in ("self.save_pretrained", "module.save_pretrained"):
        return False  # ours, which goes that way
    if call in WRITES | MOVES | WRITES_INTO or last in WRITES | MOVES | WRITES_INTO:
        return True
    if last == "replace":  # Path.replace takes one argument, str.replace and dataclasses.replace more
        return len(node.args) == 1 and not node.keywords
    modes = node.args[call == "open" :][:1] + [each.value for each in node.keywords if each.arg == "mode"]
    return last == "open" and any(isinstance(m, ast.Constant) and set("wax+") & set(str(m.value)) for m in modes)


@asked_of([path for path in [*FILES, *WORKSHOP_FILES] if name(path) not in MAY_WRITE])
def test_a_file_is_written_through_lightning_adv_files_alone(path):
    inside = set()
    for _, call, node in calls(path):
        if call in ("replace_atomically", "replace_folder"):
            inside |= {id(each) for each in ast.walk(node)} - {id(node)}
    found = {
        f"line {line}: {call}" for line, call, node in calls(path) if id(node) not in inside and _writes(call, node)
    }
    assert not found, "a kill, a full disk or a second process would leave half of it: use lightning_adv.files"


@asked_of([path for path in FILES if name(path) not in MAY_CALL])
def test_a_classifier_is_asked_in_one_place(path):
    found = {f"line {line}: {call}(...)" for line, call, _ in calls(path) if call.split(".")[-1] in CLASSIFIERS}
    assert not found, "use lightning_adv.asking: logits_of works on a copy, checks the answer and scales gradients"


@asked_of([path for path in [*FILES, *WORKSHOP_FILES] if name(path) not in MAY_CHOOSE])
def test_a_prediction_is_made_by_one_rule(path):
    found = {f"line {line}: {call}" for line, call, _ in calls(path) if call.endswith(".argmax")}
    of_logits = ("logits.max", "softmax(dim=1).max", "softmax(dim=-1).max")
    found |= {f"line {line}: {call}" for line, call, _ in calls(path) if call.endswith(of_logits)}
    assert not found, "use predicted, is_right or confident of lightning_adv.asking: a NaN names no class"


def test_the_exceptions_to_these_rules_are_needed():
    for path in FILES:
        called = [call for _, call, _ in calls(path)]
        assert name(path) not in MAY_CALL or any(each.split(".")[-1] in CLASSIFIERS for each in called)
        chooses = any(each.endswith((".argmax", ".max")) for each in called)
        assert name(path) not in MAY_CHOOSE or chooses


@asked_of([*FILES, *WORKSHOP_FILES])
def test_no_file_is_a_drawer_for_everything(path):
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not drawers & set(module_name(path).split(".")), "a helper lives beside its users under a name of its own"


@asked_of(ENTRY_POINTS)
def test_an_entry_point_is_thin(path):
    assert len(path.read_text().splitlines()) <= 12
