"""Adversarial training with and without generated images."""
