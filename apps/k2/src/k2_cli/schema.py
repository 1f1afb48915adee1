"""`k2 schema`: compare, lock, register and inspect the contract of the trade topics."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from k2_schemas import (
    FileRegistry,
    SchemaError,
    SchemaLockError,
    ServerRegistry,
    TradeCodec,
    compile,
    contract,
    parse_frame,
)
from k2_schemas.registry import LOCK_NAME, LockedSchema, lock_schema
from k2_schemas.topics import SUBJECT

from .errors import CommandError

app = typer.Typer(
    no_args_is_help=True,
    help="Compare, lock, register and inspect the schemas of the trade topics.",
)

SchemaFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An .avsc file.")]
Subject = Annotated[str, typer.Option(help="Registry subject.")]
LockFolder = Annotated[
    Path | None,
    typer.Option(
        "--lock",
        exists=True,
        file_okay=False,
        help=f"Folder with {LOCK_NAME} and its schemas; default: what k2-schemas ships.",
    ),
]


@app.command()
def check(
    old: SchemaFile,
    new: SchemaFile,
    strict: Annotated[bool, typer.Option(help="Fail on risky changes too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per finding.")] = False,
) -> None:
    """Say what a change of schema does to records old and new. Exit code 1 if it breaks them.

    Example: k2 schema check trade_v2.avsc trade_v3.avsc
    """
    findings = contract.check(old.read_text("utf-8"), new.read_text("utf-8"))
    for found in findings:
        fields = {name: str(getattr(found, name)) for name in found.__slots__}
        typer.echo(json.dumps(fields) if as_json else str(found))
    bad = {contract.Severity.BREAKING, *([contract.Severity.RISKY] if strict else [])}
    if any(found.severity in bad for found in findings):
        raise typer.Exit(1)
    if not findings and not as_json:
        typer.echo("no change of meaning")


@app.command()
def lock(
    schema: SchemaFile,
    schema_id: Annotated[int, typer.Option("--id", min=0, help="The id that frames carry.")],
    version: Annotated[int, typer.Option(min=1, help="Version within the subject.")],
    subject: Subject = SUBJECT,
) -> None:
    """Add a schema to the lock file beside it, under an id that is new or already its own.

    Example: k2 schema lock schemas/trade_v3.avsc --id 2 --version 2
    """
    compile(schema.read_text("utf-8"))
    lock_schema(schema.parent, subject, schema.name, schema_id, version)
    typer.echo(f"{schema.parent / LOCK_NAME}: {subject} version {version} has id {schema_id}")


@app.command()
def register(
    url: Annotated[str, typer.Option(help="Schema registry, Confluent's API.")],
    schema: Annotated[
        Path | None,
        typer.Argument(
            exists=True, dir_okay=False, help="An .avsc file; none: all that k2-schemas has locked."
        ),
    ] = None,
    subject: Subject = SUBJECT,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds per call.")] = 5.0,
) -> None:
    """Register a schema with compatibility NONE and print the id to lock it under.

    Without a file, those that frames carry, each of which must get the id it is locked under: a
    registry of its own, before anything else is registered there. Feeds and lakes never register
    anything: this is a deployment's step. Run check first.

    Example: k2 schema register trade_v3.avsc --url http://127.0.0.1:8081/apis/ccompat/v7
    """
    registry = ServerRegistry(url, FileRegistry({}), timeout_s=timeout_s)
    if schema is None:
        for locked in FileRegistry.packaged().all():
            _register_locked(registry, locked)
        return
    text = schema.read_text("utf-8")
    compile(text)
    typer.echo(registry.register(subject, text))


def _register_locked(registry: ServerRegistry, locked: LockedSchema) -> None:
    found = registry.register(locked.subject, locked.text)
    if found != locked.schema_id:
        reason = f"the lock file says id {locked.schema_id}, {registry.url} gave {found}"
        raise SchemaLockError(locked.subject, reason)
    typer.echo(f"{locked.subject} has id {found}")


@app.command()
def inspect(
    frame: Annotated[
        str, typer.Argument(help="A Kafka value: a file, hexadecimal digits, or - for stdin.")
    ],
    folder: LockFolder = None,
) -> None:
    """Print the schema id and the record of a frame; say where and why one does not decode.

    Example: k2 schema inspect dead-letter.bin
    """
    registry = FileRegistry.packaged() if folder is None else FileRegistry.from_folder(folder)
    data = _read_frame(frame)
    schema_id, body = parse_frame(data)
    schema = registry.get(schema_id)
    record = compile(schema.text).decode(body)
    shown = {
        "schema_id": schema_id,
        "subject": schema.subject,
        "version": schema.version,
        "bytes": len(data),
        "record": record,
        "trade": _judge(data, registry),
    }
    typer.echo(json.dumps(shown, indent=2, default=str))


def _judge(data: bytes, registry: FileRegistry) -> Any:
    """Say whether the frame is a trade that every part of K2 accepts."""
    try:
        TradeCodec(registry).decode(data)
    except SchemaError as error:
        return str(error)
    return "exact"


def _read_frame(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    path = Path(source)
    try:
        if path.is_file():
            return path.read_bytes()
    except OSError:
        pass  # hexadecimal digits can be too long for a file name
    try:
        return bytes.fromhex(source)
    except ValueError:
        raise CommandError(
            f"{source[:60]!r} is neither a file nor hexadecimal digits; "
            "give a file of raw bytes, hex, or - for stdin"
        ) from None
