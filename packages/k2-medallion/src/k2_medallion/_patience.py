"""Patience: how often Arrow asks a store again that does not answer. PyIceberg loads it by name."""

from pyarrow.fs import AwsDefaultS3RetryStrategy


class PatientRetries(AwsDefaultS3RetryStrategy):  # type: ignore[misc]  # pyarrow has no types
    """Eleven times within 50 s, at first after 25 ms, then twice as long each time."""

    def __init__(self) -> None:
        super().__init__(max_attempts=11)
