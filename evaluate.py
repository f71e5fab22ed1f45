"""Attack a trained classifier and write a report: ``python evaluate.py --ckpt_path FILE``."""

from pathlib import Path

from lightning_adv.cli import evaluate

if __name__ == "__main__":
    evaluate(default_config=Path(__file__).parent / "configs" / "evaluate" / "standard.yaml")
