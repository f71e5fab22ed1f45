"""Adversarial images in the physical world (Kurakin et al., 2017) and kinds of outcome (Billovits et al.)."""
