"""Mitigations on published backdoored networks."""
