"""Purification by a pixel diffusion model (DiffPure; Nie et al., 2022) on MNIST."""
