"""Containers: the real services of the integration tests, each from an image that can be named.

`K2_TEST_KAFKA_IMAGE` and its kin name others than those that `hatch run images` makes. With
`K2_CONTAINERS=required`, as in CI, a missing engine or image is a failure, else a skip.
"""

import os

# Read by testcontainers when it is imported. Its reaper is an image that cannot be built here; the
# fixtures remove what they made.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
