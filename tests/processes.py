"""Running train.py in processes of its own, and what such a run left."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

__all__ = ["NO_NOISE", "ROOT", "SECONDS", "TWO_RANKS", "environment", "results", "torchrun", "train", "weights"]

ROOT = Path(__file__).parent.parent
SECONDS = 200
"""No run takes half of this; a run that hangs is killed then."""

TWO_RANKS = (
    "--trainer.devices=2",
    "--trainer.strategy=DDPStrategy",
    "--trainer.strategy.process_group_backend=gloo",
    "--trainer.strategy.timeout=0:01:30",  # a rank that is left alone in a collective ends with an error then
)
NO_NOISE = ("--model.objective=CrossEntropy", "--model.objective.label_smoothing=0")


def environment() -> dict[str, str]:
    """One thread, a free port, and nothing that another run left."""
    left = ("LIGHTNING_ADV", "MASTER_", "LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE", "WANDB_", "PL_", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return kept | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": path}


def train(folder: Path, command: str, run: str, *options: str) -> str:
    """Run train.py as a user does; what it printed."""
    line = [sys.executable, str(ROOT / "train.py"), command, "--config", "base.yaml", "--run", run, *options]
    done = subprocess.run(line, cwd=folder, env=environment(), timeout=SECONDS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def torchrun(script: str, folder: Path, ranks: int, *arguments: object) -> str:
    """Write a script into a folder and run it there by as many processes; what it printed."""
    (folder / "script.py").write_text(script)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    line = [*launcher, "script.py", *map(str, arguments)]
    done = subprocess.run(line, cwd=folder, env=environment(), timeout=SECONDS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def results(folder: Path, run: str) -> dict:
    return json.loads((folder / run / "report" / "results.json").read_text())


def weights(folder: Path, run: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
