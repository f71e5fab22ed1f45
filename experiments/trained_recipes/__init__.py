"""Recipes of ``configs/recipes``, shortened and trained to their end."""
