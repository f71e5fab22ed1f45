"""One command a paper or claim; each writes its page under docs/results."""
