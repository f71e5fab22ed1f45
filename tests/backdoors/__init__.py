"""Tests of the triggers and of the choice of poisoned images."""
