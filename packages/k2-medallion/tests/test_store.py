"""A warehouse in an object store: what each library is told, and what nobody is."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_medallion import GOLD_TRADES, CatalogError, LakeHome, LakeReader, ObjectStore
from k2_medallion.duck import open_duck

KEYS = {"access_key": "key", "secret_key": "canary"}
STORE = ObjectStore("s3://lake/wh", "http://127.0.0.1:9000", **KEYS)


def test_spark_is_told_everything_but_the_secrets():
    """They are given to the running JVM: a command line can be read by anybody."""
    assert STORE.spark_properties == {
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "client.region": "us-east-1",
        "s3.path-style-access": "true",
        "s3.retry.num-retries": "12",
        "http-client.apache.socket-timeout-ms": "10000",
        "s3.endpoint": "http://127.0.0.1:9000",
    }
    assert STORE.secrets == {"s3.access-key-id": "key", "s3.secret-access-key": "canary"}
    assert STORE.file_properties == {
        "s3.region": "us-east-1",
        "s3.endpoint": "http://127.0.0.1:9000",
        **STORE.secrets,
    }


def test_amazon_itself_has_no_endpoint_and_its_own_keys():
    """Then each library asks the chain that AWS documents."""
    assert ObjectStore("s3://lake/wh").file_properties == {"s3.region": "us-east-1"}


def test_a_store_does_not_print_its_keys():
    """Nor does a home that has it."""
    assert "canary" not in repr(LakeHome(path=None, store=STORE))  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["lake/wh", "file:///wh", "s3://", "hdfs://a/b"])
def test_a_place_that_is_no_bucket_is_refused(place: str):
    """With the form that it should have."""
    with pytest.raises(CatalogError, match="s3://bucket/prefix"):
        ObjectStore(place)


def test_the_environment_names_a_store():
    """As k2-lake's own settings are named."""
    told = {
        "K2_STORE__WAREHOUSE": "s3://lake/wh",
        "K2_STORE__ENDPOINT": "http://127.0.0.1:9000",
        "K2_STORE__ACCESS_KEY": "key",
        "K2_STORE__SECRET_KEY": "canary",
        "K2_STORE__REGION": "",
    }
    assert ObjectStore.from_environment(told) == STORE
    assert ObjectStore.from_environment({}) is None


def test_duckdb_reads_where_the_home_is():
    """A local home needs no file system of ours; a store has one under its own scheme."""
    with open_duck(LakeHome(path=None, store=STORE).file_io) as duck:  # type: ignore[arg-type]
        assert duck.list_filesystems() == ["s3"]
    with open_duck(LakeHome(path=None).file_io) as duck:  # type: ignore[arg-type]
        assert duck.list_filesystems() == []


def test_a_key_can_be_a_files_content(tmp_path):
    """As k2-lake takes it; one in the environment comes first."""
    path = tmp_path / "key"
    path.write_text("canary\n")
    told = {
        "K2_STORE__WAREHOUSE": "s3://lake/wh",
        "K2_STORE__ENDPOINT": "http://127.0.0.1:9000",
        "K2_STORE__ACCESS_KEY": "key",
        "K2_STORE__ACCESS_KEY_FILE": "/not/looked/at",
        "K2_STORE__SECRET_KEY_FILE": str(path),
    }
    assert ObjectStore.from_environment(told) == STORE
    path.write_text("")
    with pytest.raises(CatalogError, match=f"{path} is empty"):
        ObjectStore.from_environment(told)
    with pytest.raises(CatalogError, match="/no/such/file: No such file"):
        ObjectStore.from_environment({**told, "K2_STORE__SECRET_KEY_FILE": "/no/such/file"})


def test_a_store_that_does_not_answer_is_our_own_error(home, write):
    """Of the library's there are many, and each would be a traceback."""
    (metadata,) = (home.path / "warehouse" / "market" / GOLD_TRADES.name / "metadata").glob("0*")
    with LakeReader(home) as lake:
        metadata.unlink()
        with pytest.raises(CatalogError, match=r"gold_crypto_trades: .*K2_STORE__ENDPOINT"):
            lake.sql("SELECT 1 FROM gold_crypto_trades")


@contextmanager
def open_returning_store(unanswered):
    """Serve an object of one byte, after as many requests that get no answer."""
    left = iter(range(unanswered))

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            if next(left, None) is not None:
                return  # the connection ends, as with a store that is killed
            self.send_response(200)
            self.send_header("Content-Length", "1")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield ObjectStore("s3://lake/wh", f"http://127.0.0.1:{server.server_port}", **KEYS)
        server.shutdown()


def test_a_driver_waits_for_a_store_that_comes_back():
    """A reader is told at once that nobody answers; a batch is not given up in the middle."""
    with open_returning_store(6) as store:
        files = PyArrowFileIO({**store.file_properties, **store.patience})
        assert len(files.new_input("s3://lake/wh/x")) == 1
    with open_returning_store(6) as store:
        files = PyArrowFileIO(store.file_properties)
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            len(files.new_input("s3://lake/wh/x"))
