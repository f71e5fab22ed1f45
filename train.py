"""Train, validate or test a classifier: ``python train.py fit --config configs/demo.yaml``."""

from lightning_adv.interruption import heed_signals

if __name__ == "__main__":
    heed_signals()  # before imports that take seconds
    from lightning_adv.cli import train

    train()
