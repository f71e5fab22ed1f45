"""``--json``: the results as one document on stdout, for machines; what people read goes to stderr meanwhile."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from lightning_adv.screen import print_document

__all__ = ["JSON", "document_alone"]

JSON = "--json"


@contextmanager
def document_alone(wanted: bool) -> Iterator[list[Path]]:
    """Inside, all that is printed goes to stderr, also by processes that are started; then comes the document.

    Args:
        wanted: whether to do so at all.

    Yields:
        A list that takes the folder of the report.
    """
    reports: list[Path] = []
    if not wanted:
        yield reports
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield reports
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        for folder in [each for each in reports if (each / "results.json").is_file()]:
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            print_document({"report": str(folder / "index.html")} | results)
