"""Published files and layouts: which load, and what inspections and attacks find in those of real networks."""
