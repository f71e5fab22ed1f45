"""What evaluations leave behind, a file for each kind: counts, tables, pictures, JSON."""
