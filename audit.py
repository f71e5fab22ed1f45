"""Does a file hold code or a backdoor, and what does it withstand: ``python audit.py FILE --data DATA``."""

from lightning_adv.interruption import heed_signals

if __name__ == "__main__":
    heed_signals()  # before imports that take seconds
    from lightning_adv.cli import audit

    audit()
