"""k2 schema: what a change does, which id means what, and what is in a frame."""

import json
import sys
from pathlib import Path

import pytest

from k2_cli.__main__ import main
from k2_schemas import FileRegistry, TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import SUBJECT

TEXT = FileRegistry.packaged().latest(SUBJECT).text
FRAME = TradeCodec().encode(make_trade())


@pytest.fixture
def k2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `k2 schema …` in this process; return exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["k2", "schema", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return code if isinstance(code, int) else 0, *capsys.readouterr()

    return run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The contract, and the contract with another scale."""
    old, new = tmp_path / "old.avsc", tmp_path / "new.avsc"
    old.write_text(TEXT)
    new.write_text(TEXT.replace('"scale": 8', '"scale": 4'))
    return old, new


def test_check_fails_on_what_breaks(k2, files: tuple[Path, Path]):
    """The change that registries pass is exit code 1 here, and says what it does."""
    code, out, _ = k2("check", *files)

    assert code == 1
    assert "breaking: price: decimal scale 8 → 4" in out
    assert "factor of 10,000" in out


def test_check_passes_what_changes_nothing(k2, files: tuple[Path, Path]):
    """Equal schemas say so."""
    assert k2("check", files[0], files[0])[:2] == (0, "no change of meaning\n")


def test_check_speaks_json_and_is_as_strict_as_asked(k2, tmp_path: Path, files: tuple[Path, Path]):
    """A risky change passes, unless --strict; each finding is an object."""
    turned = json.loads(TEXT)
    turned["fields"].reverse()
    (tmp_path / "turned.avsc").write_text(json.dumps(turned))
    code, out, _ = k2("check", files[0], tmp_path / "turned.avsc", "--json")

    assert code == 0
    assert [json.loads(line)["severity"] for line in out.splitlines()] == ["risky"]
    assert k2("check", files[0], tmp_path / "turned.avsc", "--strict")[0] == 1


def test_lock_writes_what_a_registry_reads(k2, files: tuple[Path, Path]):
    """The lock file beside the schema then opens, and an id keeps its meaning."""
    old, new = files
    assert k2("lock", old, "--id", 7, "--version", 1)[0] == 0
    code, _, err = k2("lock", new, "--id", 7, "--version", 2)

    assert FileRegistry.from_folder(old.parent).get(7).text == TEXT
    assert code == 1
    assert "id 7 is locked for old.avsc" in err


def test_lock_takes_schemas_only(k2, tmp_path: Path):
    """A broken file never gets an id."""
    (tmp_path / "bad.avsc").write_text("{")
    code, _, err = k2("lock", tmp_path / "bad.avsc", "--id", 1, "--version", 1)

    assert code == 1
    assert err.startswith("k2: not an Avro schema")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.avsc"]


def test_inspect_shows_a_frame_from_hex_or_file(k2, tmp_path: Path):
    """Id, subject and every field; and whether K2 takes it as a trade."""
    (tmp_path / "frame.bin").write_bytes(FRAME)
    from_hex, from_file = k2("inspect", FRAME.hex()), k2("inspect", tmp_path / "frame.bin")
    shown = json.loads(from_hex[1])

    assert from_hex == from_file
    assert (shown["schema_id"], shown["subject"], shown["trade"]) == (1, SUBJECT, "exact")
    assert shown["record"]["price"] == "61837.63000000"


def test_inspect_tells_a_record_from_a_trade(k2):
    """A body that decodes but has another trade's id is shown, with the reason."""
    foreign = FRAME.replace(b"ea3f6f07", b"ea3f6f08")
    _, out, _ = k2("inspect", foreign.hex())

    assert "message_id is not the one of this trade" in json.loads(out)["trade"]


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ("zz", "neither a file nor hexadecimal digits"),
        ("zz" * 5_000, "neither a file nor hexadecimal digits"),
        ("01", "not a Confluent frame (1 bytes)"),
        ("0000000063aa", "schema 99 is not registered"),
        (FRAME[:-3].hex(), "body does not decode"),
    ],
)
def test_inspect_says_in_one_sentence_what_is_wrong(k2, frame: str, sentence: str):
    """No traceback, exit code 1."""
    code, out, err = k2("inspect", frame)

    assert (code, out) == (1, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_register_without_a_server_is_one_sentence(k2, files: tuple[Path, Path]):
    """And it comes within the time allowed."""
    code, _, err = k2("register", files[0], "--url", "http://127.0.0.1:9", "--timeout", 1)

    assert code == 1
    assert err.startswith("k2: schema registry http://127.0.0.1:9: ")
    assert err.count("\n") == 1
