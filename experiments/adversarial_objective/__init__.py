"""Goodfellow's adversarial objective (Goodfellow et al., 2015), and rejection by kernel densities."""
