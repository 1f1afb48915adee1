#!/bin/sh
# In place of k2-feed in its image: the replay exchange.
exec python3 -m k2_connectors.testing "$@"
