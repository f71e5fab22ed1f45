"""A terminal as far as progress bars need one: carriage return, line feed, cursor up, erase a line."""

import re

ACTION = re.compile(r"\r|\n|\x1b\[(\d*)([A-Za-z])|\x1b\[\?\d+[hl]")


def frames(output: str) -> list[list[str]]:
    """The lines on the screen before each line was erased, and at the end.

    Args:
        output: all that was written to the terminal.
    """
    lines, row, column, shown = [""], 0, 0, []
    position = 0
    for action in [*ACTION.finditer(output), None]:
        text = output[position : action.start() if action else None]
        lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
        column += len(text)
        if action is None:
            break
        position = action.end()
        if action.group() == "\r":
            column = 0
        elif action.group() == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif action.group(2) == "A":
            row -= int(action.group(1) or 1)
        elif action.group(2) == "K":
            shown.append(_copy(lines))
            lines[row] = ""
    return [*shown, _copy(lines)]


def _copy(lines: list[str]) -> list[str]:
    return [line.rstrip() for line in lines if line.strip()]
