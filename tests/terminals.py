"""Running a script in a terminal of its own; for systems that have such."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from pathlib import Path

from tests.processes import SECONDS, environment
from tests.warm import Warm

__all__ = ["in_a_terminal"]


def in_a_terminal(line: list, folder: Path, columns: int, rows: int = 50) -> tuple[int, str]:
    """Exit status of a Python script, run warm, and everything that it writes to a terminal, but for colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    process = Warm([str(each) for each in line], cwd=folder, env=environment() | {"TERM": "xterm-256color"}, **streams)
    os.close(slave)
    written, deadline = bytearray(), time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 1.0)[0]:
                continue
            try:
                written += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        status = process.wait(timeout=SECONDS)
    finally:
        os.close(master)
        process.kill()
    return status, re.sub(r"\x1b\[[0-9;]*m", "", written.decode(errors="replace"))
