"""Which classes and functions a pickle asks for, read from its instructions; nothing of it is executed or imported."""

import pickletools
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

__all__ = ["COMPUTED", "names_in_pickles"]

COMPUTED = "a name that is put together while it is read"

_MOST = 2_000_000  # instructions; a network of a thousand tensors takes 40,000
_PARTS = 8  # pickles one after the other; torch's old format has five
_MAGIC = 0x1950A86A20F9469CFC6C  # what a file of torch's old format begins with
_OLD_PARTS = 5
_MARK = object()
_PUTS, _GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")


def names_in_pickles(file: BinaryIO) -> tuple[list[str], bool]:
    """Dotted names that the pickles at this place of a file ask for, and whether the first of them has an end.

    Example:
        >>> import io, pickle
        >>> names_in_pickles(io.BytesIO(pickle.dumps([len, {"epoch": 3}])))
        (['builtins.len'], True)
    """
    names: dict[str, None] = {}
    parts, has_end = _PARTS, True
    for part in range(_PARTS):
        if part == parts:
            break
        found: dict[str, None] = {}
        whole = _read_one(file, found)
        if part and not whole and parts != _OLD_PARTS:
            break  # what follows the pickles is none; in torch's old format it is one that runs until it breaks
        names |= found
        if part == 0:
            parts = _OLD_PARTS if str(_MAGIC) in found else _PARTS
        if not whole:
            has_end = part > 0
            break
    names.pop(str(_MAGIC), None)
    return list(names), has_end


def _read_one(file: BinaryIO, names: dict[str, None]) -> bool:
    """Add the names of one pickle; whether it was read to its end."""
    try:
        for name in _names(islice(pickletools.genops(file), _MOST)):
            names[name] = None
    except Exception:  # damaged bytes surface as almost any exception
        return False
    return True


def _names(instructions: Iterator) -> Iterator[str]:
    """Follow the texts on the stack, which name what STACK_GLOBAL asks for; everything else is unknown (None)."""
    stack: list[object] = []
    memo: dict[int, object] = {}
    name = ""
    for opcode, arg, _ in instructions:
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(arg).replace(" ", ".", 1)
        elif name == "STACK_GLOBAL":
            pair = (_top(stack, 2), _top(stack, 1))
            yield ".".join(map(str, pair)) if all(isinstance(each, str) for each in pair) else COMPUTED
        elif name.startswith("EXT"):
            yield f"copyreg.extension_{arg}"
        elif arg == _MAGIC:
            yield str(_MAGIC)
        if name in _PUTS or name == "MEMOIZE":
            memo[len(memo) if arg is None else arg] = _top(stack, 1)
        elif name in _GETS:
            stack.append(memo.get(arg))
        elif name == "DUP":
            stack.append(_top(stack, 1))
        elif name == "MARK":
            stack.append(_MARK)
        else:
            _apply(opcode, stack)
            if isinstance(arg, str) and ("STRING" in name or "UNICODE" in name):
                stack[-1] = arg
    if name != "STOP":
        raise ValueError("a pickle without an end, or one that is too long")


def _apply(opcode: pickletools.OpcodeInfo, stack: list[object]) -> None:
    taken = list(opcode.stack_before)
    if pickletools.markobject in taken:
        while stack and stack.pop() is not _MARK:
            pass
        taken = taken[: taken.index(pickletools.markobject)]
    del stack[len(stack) - min(len(stack), len(taken)) :]
    stack.extend([None] * len(opcode.stack_after))


def _top(stack: list[object], place: int) -> object:
    return stack[-place] if len(stack) >= place else None
