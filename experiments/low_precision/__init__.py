"""Verdicts and time of AutoAttack that searches in bfloat16."""
