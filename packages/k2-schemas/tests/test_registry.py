"""FileRegistry: schema ids that are known before the first message."""

import json
from hashlib import sha256
from importlib import resources
from pathlib import Path

import pytest

from k2_schemas import FileRegistry, LockedSchema, SchemaLockError, TradeCodec, UnknownSchemaError
from k2_schemas.registry import LOCK_NAME, lock_schema
from k2_schemas.testing import make_trade
from k2_schemas.topics import SUBJECT


def write_lock(folder: Path, texts: dict[str, str]) -> None:
    """Write schema files and a lock that tells the truth about them, ids from 1 on."""
    entries = []
    for number, (name, text) in enumerate(texts.items(), start=1):
        (folder / name).write_bytes(text.encode())
        entry = {"subject": SUBJECT, "id": number, "version": number, "file": name}
        entries.append(entry | {"sha256": sha256(text.encode()).hexdigest()})
    (folder / "schemas.lock.json").write_text(json.dumps({"schemas": entries}))


def packaged_text() -> str:
    """The contract as it ships."""
    return FileRegistry.packaged().latest(SUBJECT).text


def test_the_packaged_contract_is_the_one_that_was_locked():
    """The shipped schema is under id 1 and has the 15 fields of V2 in order."""
    registry = FileRegistry.packaged()
    names = [field["name"] for field in json.loads(registry.get(1).text)["fields"]]

    assert registry.ids == (1,)
    assert registry.latest(SUBJECT) == registry.get(1)
    assert names == [
        *["message_id", "trade_id", "symbol", "exchange", "asset_class", "timestamp", "price"],
        *["quantity", "currency", "side", "trade_conditions", "source_sequence"],
        *["ingestion_timestamp", "platform_sequence", "vendor_data"],
    ]


def test_the_packaged_lock_holds_the_digest_of_the_file():
    """The lock is checked against the file's bytes by an independent digest."""
    folder = resources.files("k2_schemas").joinpath("avro")
    (entry,) = json.loads(folder.joinpath("schemas.lock.json").read_text())["schemas"]

    assert entry["sha256"] == sha256(folder.joinpath(entry["file"]).read_bytes()).hexdigest()


def test_a_schema_that_changed_under_its_id_is_refused(tmp_path: Path):
    """One changed letter would make every stored frame ambiguous."""
    write_lock(tmp_path, {"trade.avsc": packaged_text()})
    changed = packaged_text().replace("BUY", "BID")
    (tmp_path / "trade.avsc").write_text(changed)
    with pytest.raises(SchemaLockError) as caught:
        FileRegistry.from_folder(tmp_path)

    assert caught.value.subject == "trade.avsc"
    assert sha256(changed.encode()).hexdigest()[:12] in str(caught.value)
    assert sha256(packaged_text().encode()).hexdigest()[:12] in str(caught.value)


def test_the_newest_version_writes_and_every_version_reads(tmp_path: Path):
    """Frames of an older id stay readable after a new version is locked."""
    newer = packaged_text().replace("One public trade", "A public trade")
    write_lock(tmp_path, {"old.avsc": packaged_text(), "new.avsc": newer})
    codec = TradeCodec(FileRegistry.from_folder(tmp_path))

    assert codec.schema_id == 2
    assert codec.decode(TradeCodec().encode(make_trade())) == make_trade()
    assert codec.decode(codec.encode(make_trade())) == make_trade()


def test_an_unknown_id_or_subject_names_what_is_known():
    """The error says what the lock file has."""
    registry = FileRegistry({7: LockedSchema("a-value", 7, 1, "{}")})
    with pytest.raises(UnknownSchemaError, match=r"schema 8 .*known: 7"):
        registry.get(8)
    with pytest.raises(UnknownSchemaError, match=r"schema 'b-value' .*known: a-value"):
        registry.latest("b-value")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schemas": [{}]}', '{"schemas": [{"id": "1"}]}', '{"schemas": 7}']
)
def test_a_lock_file_that_is_none_says_so(tmp_path: Path, text: str):
    """A truncated or hand-edited lock is one clear error, not a KeyError."""
    (tmp_path / LOCK_NAME).write_text(text)
    with pytest.raises(SchemaLockError, match="cannot be read"):
        FileRegistry.from_folder(tmp_path)


def test_a_folder_without_lock_or_schema_says_so(tmp_path: Path):
    """The error names the file that is not there."""
    with pytest.raises(SchemaLockError, match=r"schemas\.lock\.json"):
        FileRegistry.from_folder(tmp_path)
    write_lock(tmp_path, {"trade.avsc": packaged_text()})
    (tmp_path / "trade.avsc").unlink()
    with pytest.raises(SchemaLockError, match=r"trade\.avsc"):
        FileRegistry.from_folder(tmp_path)


def test_locking_adds_a_schema_under_a_new_id(tmp_path: Path):
    """Once, however often it is locked; the file reads back."""
    (tmp_path / "trade.avsc").write_text(packaged_text())
    for _ in range(2):
        lock_schema(tmp_path, SUBJECT, "trade.avsc", 7, 3)
    registry = FileRegistry.from_folder(tmp_path)

    assert registry.all() == (LockedSchema(SUBJECT, 7, 3, packaged_text()),)
    assert [path.name for path in tmp_path.iterdir()] != []


def test_locking_never_changes_what_an_id_means(tmp_path: Path):
    """Frames under that id exist; another text needs another id."""
    (tmp_path / "old.avsc").write_text(packaged_text())
    (tmp_path / "new.avsc").write_text(packaged_text().replace("BUY", "BID"))
    lock_schema(tmp_path, SUBJECT, "old.avsc", 1, 1)
    before = (tmp_path / LOCK_NAME).read_bytes()
    with pytest.raises(SchemaLockError, match=r"id 1 is locked for old\.avsc"):
        lock_schema(tmp_path, SUBJECT, "new.avsc", 1, 2)

    assert (tmp_path / LOCK_NAME).read_bytes() == before
