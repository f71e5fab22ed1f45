"""Results as tables, pictures, JSON and an HTML page."""
