"""Attacks beside scans, inspectors, detectors and mitigations that do not know them."""
