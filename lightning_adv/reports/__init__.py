"""The report of a run: page, storage, provenance, comparison with other runs."""
