"""Concealed backdoor attacks: Tables 1 to 6, measured beside the paper's figures."""
