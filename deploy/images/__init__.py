"""Images: see `__main__`."""
