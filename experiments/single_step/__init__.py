"""Training with one step of attack, and when it collapses."""
