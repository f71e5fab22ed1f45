"""The small trained networks that come with the package."""
