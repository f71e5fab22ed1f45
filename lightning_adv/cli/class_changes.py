"""What happens to the arguments of a class when another one takes its place in the configuration."""

from collections.abc import Iterator

from jsonargparse import Namespace

from lightning_adv.cli.classes import constructor_defaults, find_class

__all__ = ["class_changes", "may_be_changed"]


def may_be_changed(written: object, after: object) -> bool:
    """Whether another class may stand where a file names one; to ask takes less than to parse the file alone.

    Args:
        written: what the file says, as plain data.
        after: the configuration with what overrides the file.
    """
    after = _mapping(after)
    if isinstance(written, str):
        return isinstance(after, list) or (isinstance(after, dict) and not _is_class(written, after))
    if isinstance(written, list) and isinstance(after, list):
        pairs = zip(written, map(_mapping, after), strict=False)
        return any(may_be_changed(*pair) for pair in pairs if not _are_two_classes(*pair))
    if not (isinstance(written, dict) and isinstance(after, dict)):
        return False
    if "class_path" in {*written, *after} and not _is_class(written.get("class_path"), after):
        return True
    inside = {key.removesuffix("+"): value for key, value in written.items() if key != "class_path"}
    return any(key not in after or may_be_changed(value, after[key]) for key, value in inside.items())


def _is_class(name: object, after: dict) -> bool:
    path = after.get("class_path")
    if not (isinstance(name, str) and isinstance(path, str)):
        return False
    return name == path or (find_class(name) is not None and find_class(name) is find_class(path))


def _are_two_classes(written: object, after: object) -> bool:
    """Another class at the same place of a list is another item, not one that changed its class."""
    name = written.get("class_path") if isinstance(written, dict) else written
    if not (isinstance(name, str) and isinstance(after, dict)):
        return False
    return find_class(name) is not None and not _is_class(name, after)


def class_changes(before: object, after: object, where: str = "") -> Iterator[str]:
    """Say which arguments a replaced class leaves to its successor, and which are lost.

    The parser does both silently: with ``--model.optimizer=SGD`` over a configuration with Adam, Adam's learning rate
    becomes that of SGD.

    Args:
        before: the configuration without what overrides it.
        after: the same with the overrides.
        where: dotted place of both in the whole.
    """
    before, after = _mapping(before), _mapping(after)
    if isinstance(before, list) and isinstance(after, list):
        for old, new in zip(map(_mapping, before), map(_mapping, after), strict=False):  # see _are_two_classes
            if isinstance(old, dict) and isinstance(new, dict) and old.get("class_path") == new.get("class_path"):
                yield from class_changes(old, new, where)
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return
    if before.get("class_path") != after.get("class_path"):
        yield from _note(before, after, where)
        return
    for key in before:
        place = ".".join(part for part in (where, "" if key == "init_args" else key) if part)
        yield from class_changes(before[key], after.get(key), place)


def _note(before: dict, after: dict, where: str) -> Iterator[str]:
    if not (before.get("class_path") and after.get("class_path")):
        return
    old, new = _mapping(before.get("init_args")) or {}, _mapping(after.get("init_args")) or {}
    given, usual = _given(before["class_path"], old), constructor_defaults(after["class_path"])
    kept = [name for name in given if name in new and new[name] == old[name] and new[name] != usual.get(name)]
    dropped = [name for name in given if name not in new]
    facts = [f"{verb} {', '.join(names)}" for verb, names in (("keeps", kept), ("drops", dropped)) if names]
    if facts:
        names = (each["class_path"].rsplit(".", 1)[-1] for each in (after, before))
        yield "{}: {} {} of {}".format(where, next(names), " and ".join(facts), next(names))


def _given(class_path: str, arguments: dict) -> list[str]:
    usual = constructor_defaults(class_path)
    return [name for name, value in arguments.items() if value is not None and value != usual.get(name)]


def _mapping(value: object) -> object:
    return dict(vars(value)) if isinstance(value, Namespace) else value
