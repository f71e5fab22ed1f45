"""The configuration in a checkpoint is data from a stranger: bounded, plain, and naming nothing that is not allowed."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from lightning_adv.cli.allowed_classes import is_allowed, remedy
from lightning_adv.errors import InputError

__all__ = ["OUTPUTS", "check_no_other_files", "read_stored_config", "without_outputs"]

LONGEST = 500_000
"""Characters; a run with a thousand class names stores 40,000."""

DEEPEST = 40
"""Levels; a run stores up to 15."""

MOST = 20_000
"""Values; a run with a thousand class names stores 2,000."""

LONGEST_NUMBER = 40
"""Digits; Python takes minutes over a million."""

OUTPUTS = ("cache", "dirpath", "download", "export", "folder", "log", "save_dir", "verdicts")
"""Arguments that say where something is written, or that it is fetched."""

LISTS = {"ImageFolder": ("class_list", "only")}
"""Arguments of a class that are a list or the path of one: the parser leaves a text, and the data reads it as data."""

PACKAGE = "lightning_adv"
PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first where yaml was built with its C library


class _Refused(ValueError):
    """What is wrong with a text."""


def read_stored_config(text: object, origin: str, trusted: Sequence[str] = ()) -> dict:
    """A stored configuration as plain data; nothing that it names is imported or built.

    Args:
        text: what the file holds in its place, YAML as a run stores it.
        origin: the file, for the message.
        trusted: packages, modules or classes beyond the allow-list that it may name.

    Raises:
        InputError: a text that is no configuration, a class that is not allowed, or more than any run stores.

    Example:
        >>> read_stored_config("data: {class_path: lightning_adv.data.MNIST, init_args: {root: data}}", "my.ckpt")
        {'data': {'class_path': 'lightning_adv.data.MNIST', 'init_args': {'root': 'data'}}}
    """
    try:
        if not isinstance(text, str):
            raise _Refused(f"is no text but of type {type(text).__name__}")
        config = _load(text) if text.strip() else None
        config = {} if config is None else config
        _check_shape(config)
        _check(config, (), trusted)
    except _Refused as error:
        raise InputError(f"the configuration stored in {origin} {error}") from error
    return config


def without_outputs(value: object, place: str) -> tuple[object, list[str]]:
    """A checked configuration without what says where to write, and what was left out.

    Args:
        value: the configuration or a part of it.
        place: its dotted name on the command line.

    Example:
        >>> without_outputs({"class_path": "MNIST", "init_args": {"root": "data", "download": True}}, "data")
        ({'class_path': 'MNIST', 'init_args': {'root': 'data'}}, ['data.download'])
    """
    if isinstance(value, list):
        cleaned = [without_outputs(each, place) for each in value]
        return [each for each, _ in cleaned], [name for _, names in cleaned for name in names]
    if not isinstance(value, dict):
        return value, []
    kept, left_out = {}, []
    for key, each in value.items():
        if key in ("init_args", "dict_kwargs") and isinstance(each, dict):
            set_here = [name for name in OUTPUTS if each.get(name) not in (None, False)]
            left_out += [f"{place}.{name}" for name in set_here]
            each = {name: argument for name, argument in each.items() if name not in OUTPUTS}
            kept[key], names = without_outputs(each, place)
        else:
            kept[key], names = without_outputs(each, f"{place}.{key}".lstrip("."))
        left_out += names
    return kept, left_out


def check_no_other_files(value: object, origin: str) -> None:
    """Refuse a text that leads the parser to a file of settings, which nobody has checked.

    The parser reads a file in place of a class or a list where it is given the path of one. Arrays, pictures and
    weights are no texts; lists of classes and pictures are, and the parser does not read them.

    Args:
        value: what is taken of a checked configuration.
        origin: the file that it is stored in.

    Raises:
        InputError: a text that is the path of a text file.
    """
    if isinstance(value, dict):
        name = str(value.get("class_path"))
        lists = LISTS.get(name.rpartition(".")[2], ()) if name.partition(".")[0] in (PACKAGE, name) else ()
        for key, each in value.items():
            if key == "init_args" and isinstance(each, dict):
                each = {k: v for k, v in each.items() if not (k in lists and isinstance(v, str))}
            check_no_other_files(each, origin)
    elif isinstance(value, list):
        for each in value:
            check_no_other_files(each, origin)
    elif isinstance(value, str) and _leads_to_a_text(value):
        raise InputError(
            f"the configuration stored in {origin} leads to another file, {_shown(value)}; no run stores that"
        )


def _leads_to_a_text(value: str) -> bool:
    if value == "-":  # what is typed
        return True
    try:
        path = Path(value).expanduser()
        if not path.is_file():  # nor a pipe, which would have to be waited for
            return False
        with path.open("rb") as file:
            beginning = file.read(4096)
    except (OSError, ValueError, RuntimeError):  # no file, and most texts cannot be the name of one
        return False
    controls = {*range(9), 11, 12, *range(14, 32)}
    return not controls & set(beginning)


def _check_shape(config: object) -> None:
    """The parts that a command reads have the form that a run gives them."""
    if not isinstance(config, dict):
        raise _Refused(f"must hold settings such as 'data: ...', got {_shown(config)}")
    for key in ("model", "data"):
        if not (config.get(key) is None or _is_spec(config[key])):
            raise _Refused(f"must have a class with its arguments as {key}, got {_shown(config[key])}")
    trainer = {} if config.get("trainer") is None else config["trainer"]
    if not isinstance(trainer, dict):
        raise _Refused(f"must have settings as trainer, got {_shown(trainer)}")
    callbacks = [] if trainer.get("callbacks") is None else trainer["callbacks"]
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if not _is_spec(callback):
            raise _Refused(f"must have classes with their arguments as trainer.callbacks, got {_shown(callback)}")


def _is_spec(value: object) -> bool:
    return isinstance(value, dict) and "class_path" in value


def _check(value: object, keys: tuple[str, ...], trusted: Sequence[str]) -> None:
    """Refuse a value that no run stores; ``keys`` lead to it."""
    if isinstance(value, list):
        for each in value:
            _check(each, (*keys, "[]"), trusted)
    elif isinstance(value, str) and _hides_a_structure(value):
        raise _Refused(f"hides more than a text in {_shown(value)} at {_place(keys)}, which no run writes")
    elif isinstance(value, dict):
        if "class_path" in value:
            _check_class(value, keys, trusted)
        has_arguments = keys in ((), ("trainer",)) or keys[-1] in ("init_args", "dict_kwargs")
        for key, each in value.items():
            odd = any(word in key and word != key for word in ("class_path", "init_args"))
            if odd or key.startswith(("__", "$")) or (has_arguments and not key.isidentifier()):
                raise _Refused(f"has the key {_shown(key)} at {_place(keys)}, which is no argument")
            if key != "class_path":
                _check(each, (*keys, key), trusted)


def _check_class(value: dict, keys: tuple[str, ...], trusted: Sequence[str]) -> None:
    name = value["class_path"]
    if not isinstance(name, str):
        raise _Refused(f"must have the name of a class as class_path of {_place(keys)}, got {_shown(name)}")
    if not is_allowed(name, trusted):
        raise _Refused(f"names {_shown(name)} at {_place(keys)}, which a file may not name; {remedy(name)}")
    if extra := [key for key in value if key not in ("class_path", "init_args", "dict_kwargs")]:
        raise _Refused(f"has {_shown(extra[0])} beside the class_path of {_place(keys)}: it belongs to init_args")
    for key in ("init_args", "dict_kwargs"):
        if not isinstance(value.get(key), dict | None):
            raise _Refused(f"must have arguments by name as {key} of {_place(keys)}, got {_shown(value[key])}")


def _hides_a_structure(text: str) -> bool:
    """Whether a parser could make a class of a text, or a structure that explodes: by YAML or JSON within it."""
    escaped = all(mark in text for mark in '\\":')
    aliases = "&" in text and "*" in text and any(mark in text for mark in "[{\n")
    return "class_path" in text or escaped or aliases


def _load(text: str) -> object:
    """Plain data of a YAML text."""
    if len(text) > LONGEST:
        raise _Refused(f"has {len(text):,} characters, and no run needs more than {LONGEST:,}")
    try:
        _check_events(text)
        node = yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise _Refused(f"is not valid YAML:{line} {error.problem}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise _Refused(f"is not a YAML text: {str(error).splitlines()[0]}") from error
    loader = Loader("")
    try:
        return _plain(node, loader)
    finally:
        loader.dispose()


def _check_events(text: str) -> None:
    """Bounds, before anything is put together: neither depth nor aliases can make it large."""
    depth = count = documents = 0
    for event in yaml.parse(text, Loader):
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.NodeEvent)
        if depth > DEEPEST:
            raise _Refused(f"is nested deeper than {DEEPEST} levels, which no run needs")
        if count > MOST:
            raise _Refused(f"holds more than {MOST:,} values, which no run needs")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise _Refused(f"uses the anchor or alias {_shown(event.anchor)}, which no run writes")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            raise _Refused(f"uses the tag {_shown(event.tag)}, which no run writes")
        if documents > 1:
            raise _Refused("holds several YAML documents, and a run writes one")


def _plain(node: yaml.Node | None, loader: yaml.SafeLoader) -> object:
    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_plain(each, loader) for each in node.value]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, loader)
    found: dict[str, object] = {}
    for key, value in node.value:
        name = _scalar(key, loader) if isinstance(key, yaml.ScalarNode) else None
        if not isinstance(name, str):
            raise _Refused(f"has a key in line {key.start_mark.line + 1} that is no text")
        if name in found:
            raise _Refused(f"has the key {_shown(name)} twice, the second time in line {key.start_mark.line + 1}")
        found[name] = _plain(value, loader)
    return found


def _scalar(node: yaml.ScalarNode, loader: yaml.SafeLoader) -> object:
    if node.tag not in PLAIN:
        kind = node.tag.rpartition(":")[2]
        raise _Refused(f"holds a {kind} in line {node.start_mark.line + 1}, where texts and numbers are known")
    if node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
        raise _Refused(f"holds a number of {len(node.value):,} digits in line {node.start_mark.line + 1}")
    try:
        return loader.construct_object(node)
    except (ValueError, OverflowError, ArithmeticError) as error:
        raise _Refused(f"holds the number {_shown(node.value)}, which is none") from error


def _place(keys: tuple[str, ...]) -> str:
    """The dotted place as the command line has it, the innermost part of it if it is long."""
    shown = ".".join(key for key in keys if key not in ("init_args", "[]"))
    return repr(shown if len(shown) <= 80 else f"...{shown[-77:]}") if shown else "its top"


def _shown(value: object) -> str:
    """A value in one line that is not long."""
    text = repr(value) if isinstance(value, str) else f"{type(value).__name__} {value!r:.60}"
    return text if len(text) <= 80 else f"{text[:77]}..."
