"""The page of a file that an audit opens no further, because it holds code."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from lightning_adv.cli.allowed_classes import is_allowed
from lightning_adv.cli.lock import lock_folder
from lightning_adv.cli.runs import choose_run_folder, is_first_rank
from lightning_adv.errors import HoldsCode
from lightning_adv.models.contents import files_in, inspect_file
from lightning_adv.results.weights_file import FileResult

__all__ = ["refuse_code"]


def refuse_code(path: str | os.PathLike[str], trusted: Sequence[str], run: str | None, name: str) -> None:
    """Look into a file, or all of a folder; where one holds code, write the page of those that do.

    Args:
        path: of the file or folder.
        trusted: classes that its stored configuration may name beyond those that any may.
        run: folder that the user asks for.
        name: of the run, for its folder where none is asked for.

    Raises:
        InputError: no such file, or a damaged one.
        HoldsCode: the file holds code; the page is written.
    """
    started = datetime.now(UTC)
    results = []
    for file in files_in(path):
        contents = inspect_file(file)
        foreign = [each for each in contents.class_paths if not is_allowed(each, trusted)]
        results.append(
            FileResult(title=f"The file {file.name}", stage="test", contents=contents, foreign_classes=foreign)
        )
    refused = [each for each in results if each.holds_code]
    if not refused:
        return
    if is_first_rank():
        from lightning_adv.reports.html import write_report
        from lightning_adv.reports.run import run_info

        folder = choose_run_folder(run, name, resume=False)
        lock_folder(folder)
        page = write_report(
            folder / "report",
            title="Audit",
            sections=refused,
            histories={},
            baselines={},
            run=run_info(None, folder, started, finished=datetime.now(UTC)),
            config_yaml="",
            unasked="the file holds code",
        )
        print(f"report: {page}", flush=True)
    raise HoldsCode(refused[0].summary())
