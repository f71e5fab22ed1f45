"""Train, validate or test a classifier: ``python train.py fit --config configs/demo.yaml``."""

from lightning_adv.cli import train

if __name__ == "__main__":
    train()
