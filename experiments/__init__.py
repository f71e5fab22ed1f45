"""A package a paper or claim and a command each: ``python -m experiments.<package>`` writes a page of docs/results."""
