"""From jsonargparse's nested reports to one line: what is wrong, where, and what was probably meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from lightning_adv.cli.allowed_classes import remedy
from lightning_adv.cli.classes import BASES, class_names, constructor_defaults, find_class, imported, places
from lightning_adv.cli.help import as_called
from lightning_adv.cli.wording import absent_argument, absent_class, absent_option
from lightning_adv.errors import InputError

__all__ = ["from_construction", "from_parsing"]

KEY = re.compile(r'Parser key "([^"]*)":\s*(.*)')
CLASS = re.compile(r"Problem with given class_path '([^']*)':")
CALLABLE = re.compile(r"Type .* expects a function or a callable class: (.*)")
ABSENT_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
UNKNOWN_ARGUMENT = re.compile(r"Option '([^']+)' is not accepted")
NOT_ALLOWED = re.compile(r"Importing '([^']+)' is not allowed")
WRONG_TYPE = re.compile(r"Expected an? (<class .*?>|typing\.Literal\[.*?\])(?:\. Got value: (.*))?$")
TWINS = re.compile(r"Found more than one stateful callback of type `(\w+)`")
NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Not a valid subclass|Subclass types expect|"
    r"Expected a path but|Expected a <class 'NoneType'>|a (class path|dict) "
)
TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "list": "a list"}


@dataclass
class _Leaf:
    """A complaint at the end of a branch of the report, and the keys and the class it stands under."""

    text: str
    keys: tuple[str, ...]
    owner: str | None
    line: int

    @property
    def rank(self) -> tuple[int, bool]:
        """The best explanation lies deepest and is not a mere "expected a ..."."""
        return (len(self.keys), WRONG_TYPE.match(self.text) is None)


def from_parsing(message: str, known_options: Sequence[str] = ()) -> str:
    """Condense what jsonargparse writes about a command line or a configuration file.

    Args:
        message: as jsonargparse wrote it.
        known_options: dotted names that the parser accepts, without dashes.
    """
    text = message.strip()
    if found := re.search(r"unrecognized arguments: (\S+)", text):
        if not found[1].startswith("-"):
            return f"unexpected {found[1]!r}: options start with --, as in --trainer.max_epochs=3"
        name = found[1].lstrip("-").partition("=")[0]
        return absent_option("--", name, known_options)
    if found := re.search(r"(?:Group '(?:(?:fit|validate|test)\.)?([^']+)' )?does not accept option '([^']+)'", text):
        return absent_option("", ".".join(filter(None, found.groups())), known_options)
    if found := UNKNOWN_ARGUMENT.fullmatch(text):
        return absent_option("", found[1], known_options)
    if found := re.search(r"argument subcommand: invalid choice: '([^']*)' \(choose from (.*)\)", text):
        return f"there is no command {found[1]!r}; choose {found[2].replace(chr(39), '')}"
    if 'expected "subcommand"' in text:
        return as_called("say what to do, for example: python train.py fit --config configs/demo.yaml")
    if found := re.match(r"the following arguments are required: (.*)", text):
        missing = re.sub(r"\b(fit|validate|test)\.", "", found[1]).replace(", ", " and ")
        example = as_called("configs/demo.yaml")
        return f"{missing} must be given: add --config FILE (such as {example}), or --data=... and --model=..."
    if found := re.search(r"File does not exist: '?([^']+)", text):
        return f"there is no configuration file {found[1]}"
    return _explain(text)


def from_construction(error: Exception) -> str:
    """What a constructor complained of, and in which class.

    The parser wraps an exception once for every level of the configuration; the innermost one is what the user
    should read.
    """
    while not isinstance(error, InputError) and error.__cause__ is not None:
        error = error.__cause__
    if twins := TWINS.match(str(error)):
        return (
            f"there are two {twins[1]} of one name: leave one out, or name an evaluation by init_args: {{name: second}}"
        )
    owner, place = _constructor(error.__traceback__)
    said = " ".join(str(error).split())
    where = f"{owner}: " if owner and owner not in said else ""
    what = f"{where}{said or type(error).__name__}"
    # A constructor that nobody taught to speak to users: its author will want to know where.
    return what if isinstance(error, InputError) or place is None else f"{what} ({type(error).__name__}, {place})"


def _explain(text: str) -> str:
    lines = text.splitlines()
    leaves = _leaves(lines)
    if not leaves:
        return text.splitlines()[0]
    leaf = max(leaves, key=lambda each: each.rank)
    where = ".".join(leaf.keys) or "the configuration"
    if found := next((match for each in leaves if (match := NOT_ALLOWED.search(each.text))), None):
        return f"{where} must not be {found[1]!r}, which neither you nor the allow-list name; {remedy(found[1])}"
    if leaf.text.startswith("the following arguments are required: "):
        return f"{where}: {_short(leaf.owner)} needs the argument {leaf.text.partition(': ')[2]}"
    if (found := UNKNOWN_ARGUMENT.match(leaf.text)) and found[1] not in ("class_path", "init_args"):
        own = list(constructor_defaults(leaf.owner or ""))
        return absent_argument(where, _short(leaf.owner), found[1], own)
    if found or "is abstract" in leaf.text:
        return f"{where}: the arguments of a class stand under init_args, as {{class_path: NAME, init_args: {{...}}}}"
    base, types = _expected_base(lines[: leaf.line]), _expectation(leaves, leaf)
    if (found := ABSENT_CLASS.match(leaf.text)) and (base or not types):
        return absent_class(where, found[1], class_names(base or _asked_for(leaf)))
    if found or WRONG_TYPE.match(leaf.text):
        return f"{where} must be {types}, got {_value(lines, leaf)}"
    return f"{where}: {leaf.text}"


def _leaves(lines: list[str]) -> list[_Leaf]:
    """Every complaint of the report; indentation tells under which keys and class it stands."""
    leaves: list[_Leaf] = []
    above: list[tuple[int, str, str]] = []  # indentation, "key" or "class", name
    for number, line in enumerate(lines):
        text = line.lstrip(" -")
        if not text:
            continue
        depth = len(line) - len(text)
        above = [entry for entry in above if entry[0] < depth]
        if found := CALLABLE.match(text):
            named = re.search(r"Got value: Namespace\(class_path='([^']*)'", "\n".join(lines[number:]))
            above.append((depth, "class", named[1] if named else ""))
            text, depth = re.sub(r"\. Got value: Namespace\(.*", "", found[1]), depth + 1
        if found := KEY.match(text):
            above.append((depth, "key", found[1]))
            text, depth = found[2], depth + 1
        elif found := CLASS.match(text):
            above.append((depth, "class", found[1]))
            continue
        if not text or NOISE.match(text):
            continue
        keys = tuple(name for _, kind, name in above if kind == "key")
        owner = next((name for _, kind, name in reversed(above) if kind == "class"), None)
        leaves.append(_Leaf(text, keys, owner, number))
    return leaves


def _expectation(leaves: list[_Leaf], leaf: _Leaf) -> str:
    """All types that would do at the leaf's place, in words."""
    found = [WRONG_TYPE.match(each.text) for each in leaves if each.keys == leaf.keys]
    names = [each[1] for each in found if each]
    choices = [re.sub(r"typing\.Literal\[|\]|'", "", name) for name in names if name.startswith("typing.Literal")]
    plain = [name.removeprefix("<class '").removesuffix("'>") for name in names if name.startswith("<class")]
    words = [TYPE_NAMES.get(name, name.rsplit(".", 1)[-1]) for name in plain if name != "int" or "float" not in plain]
    return " or ".join(dict.fromkeys([*words, *([f"one of {', '.join(choices)}"] if choices else [])]))


def _value(lines: list[str], leaf: _Leaf) -> str:
    found = WRONG_TYPE.match(leaf.text)
    value = found[2] if found and found[2] and "Namespace(" not in found[2] else None
    if value is None:
        given = (line.partition("Given value: ")[2] for line in lines[leaf.line :] if "Given value: " in line)
        value = next(given, "something else").partition(". Got value: ")[0]
    nested = re.match(r"NestedArg\(.*val=(.*)\)$", value)
    value = (nested[1] if nested else value).strip("'")
    return repr(value if len(value) <= 60 else value[:57] + "...")


def _short(class_path: str | None) -> str:
    return (class_path or "the class").rsplit(".", 1)[-1]


def _expected_base(lines: list[str]) -> type | None:
    """The class that the innermost key of a report asks for, as far as it tells."""
    for line in reversed(lines):
        if KEY.search(line):
            return None
        if "Subtypes: " in line:
            named = re.findall(r"<class '([\w.]+)\.(\w+)'>", line)
            classes = (imported(f"{module}.{name}") for module, name in named)
            return next((cls for cls in classes if cls in BASES), None)
    return None


def _asked_for(leaf: _Leaf) -> type | None:
    """The kind of class that an argument takes, where the report does not tell."""
    owner = find_class(leaf.owner or "")
    return places(owner)[leaf.keys[-1]][0] if owner and leaf.keys and leaf.keys[-1] in places(owner) else None


def _constructor(trace: TracebackType | None) -> tuple[str | None, str | None]:
    """Name of the class whose constructor complained, and file and line; nothing for Lightning's own."""
    owner, place = None, None
    while trace is not None:
        frame, code = trace.tb_frame, trace.tb_frame.f_code
        known = frame.f_globals.get("__name__", "").startswith("pytorch_lightning.")
        place = None if known else f"{code.co_filename}:{trace.tb_lineno}"
        if code.co_name == "__init__" and "self" in frame.f_locals and not known:
            owner = type(frame.f_locals["self"]).__name__
        trace = trace.tb_next
    return owner, place
