"""Fooling images (Nguyen, Yosinski, Clune, 2015) of an MNIST network."""
