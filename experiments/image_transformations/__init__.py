"""Image transformations as a defence (Tan, Te, Lai, 2019): Figure 6, and what is left once they are known."""
