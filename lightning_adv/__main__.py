"""The program as ``python -m lightning_adv`` and ``lightning-adv``."""

from lightning_adv.interruption import heed_signals

__all__ = ["main"]


def main() -> None:
    """Do what the command line says."""
    heed_signals()  # before imports that take seconds
    from lightning_adv.cli import program

    program()


if __name__ == "__main__":
    main()
