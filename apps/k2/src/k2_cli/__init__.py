"""The k2 command: a local stack, a demo that proves itself, queries."""
