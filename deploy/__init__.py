"""Deploy: what K2 runs in elsewhere: images, compose, and how they are made."""
