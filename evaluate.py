"""Attack a trained classifier and write a report: ``python evaluate.py --ckpt_path FILE``."""

from lightning_adv.interruption import heed_signals

if __name__ == "__main__":
    heed_signals()  # before imports that take seconds
    from lightning_adv.cli import evaluate

    evaluate()
