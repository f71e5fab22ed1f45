"""Language Guided Adversarial Purification (Singh and Subramanyam, 2024): Tables 1, 3 and 4, on MNIST."""
