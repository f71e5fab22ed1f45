"""All benchmarks, one after the other: ``python -m benchmarks --root data`` writes every page of theirs.

What an interrupted run had measured is kept by those that take long. ``--only`` runs some of them.
"""

import argparse
import subprocess
import sys
import time

__all__ = ["main"]

NEED_DATA = {
    "attacks": True,
    "attackbench": True,
    "neural_cleanse": True,
    "detectors": True,
    "purifiers": True,
    "purifier_memory": False,
    "plan": False,
    "reliability": False,
    "performance": True,
}
"""Name of a module to whether it takes ``--root``; the performance page, which links to the others, is the last."""


def main() -> None:
    """Run them; the exit status is that of the first that fails, after all have run."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--root", default="data", help="folder with the data sets")
    arguments.add_argument("--only", nargs="+", choices=[*NEED_DATA], default=[*NEED_DATA])
    given = arguments.parse_args()
    failed = 0
    for name in given.only:
        began = time.perf_counter()
        root = ["--root", given.root] if NEED_DATA[name] else []
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *root], check=False).returncode
        print(f"{name}: {'done' if status == 0 else 'failed'} in {time.perf_counter() - began:.0f} s", flush=True)
        failed = failed or status
    sys.exit(failed)


if __name__ == "__main__":
    main()
