"""Side by side with peers: same records, one run, interleaved rounds, medians and spread."""
