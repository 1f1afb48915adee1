"""A query's result on stdout: every digit, every byte, and no foreign control character."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from k2_cli.rows import escape_text, print_csv, print_json, print_table, to_text

MOMENT = datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC)

RESULT = pa.table(
    {
        "price": pa.array([Decimal("9999999999.99999999"), None], pa.decimal128(18, 8)),
        "tiny": pa.array([Decimal("0.00000001"), Decimal("-0.00000001")], pa.decimal128(18, 8)),
        "raw": pa.array([b"\x00\xff\n", b""], pa.binary()),
        "at": pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
        "day": pa.array([date(2026, 11, 23), None], pa.date32()),
        "id": pa.array([2**63 - 1, None], pa.int64()),
        "note": ['comma, "quote"\nline', ""],
        "pair": pa.array([[("pair", "XBT/USD")], None], pa.map_(pa.string(), pa.string())),
    }
)


def test_json_keeps_every_digit_and_byte(capsys: pytest.CaptureFixture[str]):
    """Decimals and bytes are text, integers are numbers, NULL is null, a map is an object."""
    print_json(RESULT)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert rows == [
        {
            "price": "9999999999.99999999",
            "tiny": "0.00000001",
            "raw": "00ff0a",
            "at": "2026-11-23T12:00:00.000001+00:00",
            "day": "2026-11-23",
            "id": 9223372036854775807,
            "note": 'comma, "quote"\nline',
            "pair": {"pair": "XBT/USD"},
        },
        {
            "price": None,
            "tiny": "-0.00000001",
            "raw": "",
            "at": None,
            "day": None,
            "id": None,
            "note": "",
            "pair": None,
        },
    ]


def test_csv_keeps_every_digit_and_byte(capsys: pytest.CaptureFixture[str]):
    """The same texts as in JSON; NULL is an empty field; what needs quotes has them."""
    print_csv(RESULT)
    header, first, second = csv.reader(io.StringIO(capsys.readouterr().out))

    assert header == RESULT.column_names
    assert first == [
        "9999999999.99999999",
        "0.00000001",
        "00ff0a",
        "2026-11-23T12:00:00.000001+00:00",
        "2026-11-23",
        "9223372036854775807",
        'comma, "quote"\nline',
        '{"pair": "XBT/USD"}',
    ]
    assert second == ["", "-0.00000001", "", "", "", "", "", ""]


def test_an_empty_result_is_a_header_or_nothing(capsys: pytest.CaptureFixture[str]):
    """No rows: CSV still says which columns there would be, JSON prints no line."""
    print_csv(RESULT.slice(0, 0).select(["price", "raw"]))
    print_json(RESULT.slice(0, 0))

    assert capsys.readouterr().out == "price,raw\n"


def test_numbers_that_json_has_not_are_text(capsys: pytest.CaptureFixture[str]):
    """NaN and Infinity are no JSON; a reader would refuse the whole line."""
    print_json(pa.table({"x": [float("nan"), float("inf"), 0.1], "xs": [[float("nan")], [], []]}))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [
        {"x": "nan", "xs": ["nan"]},
        {"x": "inf", "xs": []},
        {"x": 0.1, "xs": []},
    ]


def test_columns_of_one_name_all_keep_their_values(capsys: pytest.CaptureFixture[str]):
    """A join of two tables gives a name twice: no value may vanish or change its column."""
    joined = pa.table([[1], [2], [3]], names=["id", "id", "id_2"])
    print_csv(joined)
    print_json(joined)
    print_table(joined)
    header, row, line, *drawing = capsys.readouterr().out.splitlines()

    assert (header, row) == ("id,id,id_2", "1,2,3")
    assert json.loads(line) == {"id": 1, "id_3": 2, "id_2": 3}
    assert "│ 1  │ 2  │ 3    │" in drawing


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("1E+3"), "1000"),
        (b"\x00\x1b", "001b"),
        ([Decimal("1.10"), b"\x01"], '["1.10", "01"]'),
        ({"a": None, "b": [True]}, '{"a": null, "b": [true]}'),
        ("é\x1b", "é\x1b"),
    ],
)
def test_text_is_exact(value: object, text: str):
    """No exponent, no Python notation, nothing escaped."""
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202e", "\\x202e"),
        ("é 価格", "é 価格"),
    ],
)
def test_a_terminal_gets_no_control_character(value: str, shown: str):
    """What an exchange puts into a reason cannot move the cursor or reverse the line."""
    assert escape_text(value) == shown


@pytest.mark.parametrize("text", ["[red]x[/red]", r"\[red]x", "[/]", ":smile:", "trailing\\"])
def test_the_table_shows_text_as_it_stands(text: str, capsys: pytest.CaptureFixture[str]):
    """Neither a value nor a column's name is taken for markup or an emoji."""
    print_table(pa.table({text: ["value"], "name": [text]}))
    shown = capsys.readouterr().out

    assert shown.count(text) == 2


def test_the_table_ends_after_200_rows_and_says_so(capsys: pytest.CaptureFixture[str]):
    """More rows than anyone reads are counted, with the options that print them."""
    print_table(pa.table({"n": list(range(1234))}))
    shown = capsys.readouterr().out

    assert "│ 199 " in shown
    assert "│ 200 " not in shown
    assert "200 of 1,234 rows; --csv or --json print all" in shown


def test_null_is_told_from_empty_in_the_table(capsys: pytest.CaptureFixture[str]):
    """NULL is a word, an empty text is nothing."""
    print_table(pa.table({"n": pa.array([None, ""], pa.string())}))

    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")] == [
        "│ NULL │",
        "│      │",
    ]
