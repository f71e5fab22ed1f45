"""Transferability across learning techniques (Papernot et al., 2016, 2017)."""
