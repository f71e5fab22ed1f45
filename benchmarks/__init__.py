"""Comparisons with peer libraries on the same model and images; each writes its page under docs/results."""
