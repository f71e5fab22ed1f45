"""A robust MNIST model on two cores."""
