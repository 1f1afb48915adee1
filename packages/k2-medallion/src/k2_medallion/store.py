"""Store: a warehouse in S3, or in what speaks its protocol, as each library wants to be told of it.

Secrets are given to PyIceberg and Spark while they run, never on a command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .errors import CatalogError

_REGION = "us-east-1"
"""What servers that have no regions answer to; without any, Iceberg waits for ever."""

_PATIENCE = {
    "s3.retry.num-retries": "12",
    "http-client.apache.socket-timeout-ms": "10000",
}
"""How Spark asks a store again: with 0.1 s to 20 s and full jitter between, for about a minute.

With Iceberg's own 5 retries, under two seconds, a store that restarts ends the driver: its
`s3.retry.min-wait-ms` is for throttled requests alone. And a request that is on its way when the
store dies is waited for, by default for half a minute.
"""


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A place `s3://bucket/prefix`. Without keys each library asks the AWS chain for them.

    `endpoint` is the URL of a server that is not Amazon's. The bucket must exist.
    """

    warehouse: str
    endpoint: str | None = None
    region: str = _REGION
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.warehouse)
        if parts.scheme != "s3" or not parts.netloc:
            raise CatalogError(f"{self.warehouse} is no s3://bucket/prefix")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ObjectStore | None:
        """Return the store that `K2_STORE__WAREHOUSE` and its kin name, or None.

        The others are `K2_STORE__ENDPOINT`, `…REGION`, `…ACCESS_KEY` and `…SECRET_KEY`, or
        `…ACCESS_KEY_FILE` and `…SECRET_KEY_FILE`. Raises `CatalogError` for a file without a key.
        """
        told = {name: environment.get(f"K2_STORE__{name.upper()}") for name in cls.__slots__}
        warehouse = told.pop("warehouse")
        if not warehouse:
            return None
        for name in ("access_key", "secret_key"):
            path = environment.get(f"K2_STORE__{name.upper()}_FILE")
            if path and not told[name]:
                told[name] = _read_key(Path(path))
        return cls(warehouse, **{name: value for name, value in told.items() if value})

    @property
    def file_properties(self) -> dict[str, str]:
        """What PyIceberg's file access is told."""
        return {"s3.region": self.region, **self._endpoint_properties, **self.secrets}

    @property
    def patience(self) -> dict[str, str]:
        """What PyIceberg is told for a store that is away for a moment to be waited for.

        For a driver, in mid-batch. By itself it gives up after a second, which tells a reader, or
        whoever starts one, at once that nobody is there.
        """
        return {"s3.retry-strategy-impl": "k2_medallion._patience.PatientRetries"}

    @property
    def spark_properties(self) -> dict[str, str]:
        """What Spark's catalog is told at launch: everything but the secrets."""
        return {
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "client.region": self.region,
            "s3.path-style-access": str(self.endpoint is not None).lower(),
            **_PATIENCE,
            **self._endpoint_properties,
        }

    @property
    def secrets(self) -> dict[str, str]:
        """The keys, as both libraries call them."""
        named = {"s3.access-key-id": self.access_key, "s3.secret-access-key": self.secret_key}
        return {name: value for name, value in named.items() if value}

    @property
    def _endpoint_properties(self) -> dict[str, str]:
        return {} if self.endpoint is None else {"s3.endpoint": self.endpoint}


@contextmanager
def name_file_errors(what: str) -> Iterator[None]:
    """Raise what the files of `what`, or their store, cannot be read or written for, as our own."""
    try:
        yield
    except OSError as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CatalogError(
            f"{what}: {said}; in an object store, look at K2_STORE__ENDPOINT, …ACCESS_KEY and "
            "…SECRET_KEY, and whether the bucket exists"
        ) from error


def _read_key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror or error}") from error
    if not key:
        raise CatalogError(f"{path} is empty")
    return key
