"""Arrow: many bodies into one RecordBatch, decimals and times in Arrow's own types."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from ._backend import choose_engine
from ._plan import Kind, Node
from ._python import PythonEngine
from .errors import MissingExtraError, UnsupportedSchemaError
from .units import units_to_decimal

_INT64_DIGITS = 18
_ARROW_DIGITS = 76
_ALIASES = {
    Kind.BOOLEAN: "bool",
    Kind.INT: "int32",
    Kind.LONG: "int64",
    Kind.DOUBLE: "float64",
    Kind.BYTES: "binary",
    Kind.STRING: "string",
    Kind.UUID: "string",
    Kind.ENUM: "string",
}


class ArrowDecoder:
    """Decodes bodies of one plan into `pyarrow.RecordBatch`es."""

    def __init__(self, plan: Node) -> None:
        try:
            import pyarrow
        except ImportError:
            raise MissingExtraError("pyarrow", "arrow") from None
        self._pa = pyarrow
        self._plan = plan
        # Scaled integers are laid out as they are; inside arrays, maps and records Arrow wants
        # Decimals to convert.
        units = not any(_holds(child, Kind.DECIMAL) for child in plan.children if child.children)
        self._engine = choose_engine(PythonEngine(plan, units))
        self._schema = pyarrow.schema(
            [
                pyarrow.field(name, self._type_of(child), child.null_index >= 0)
                for name, child in zip(plan.names, plan.children, strict=True)
            ]
        )

    def decode(self, bodies: Iterable[bytes]) -> Any:
        """Return the records of the bodies as one batch, or raise `RecordDecodeError`."""
        columns = self._engine.decode_columns(bodies)
        arrays = [
            self._build(values, child)
            for values, child in zip(columns, self._plan.children, strict=True)
        ]
        return self._pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _build(self, values: Sequence[Any], node: Node) -> Any:
        kind = self._type_of(node)
        if node.kind is Kind.DECIMAL and self._engine.units:
            if node.precision <= _INT64_DIGITS and None not in values:
                return self._lay_out_units(values, kind)
            values = [None if v is None else units_to_decimal(v, node.scale) for v in values]
        elif not self._engine.units and _holds(node, Kind.UUID):
            values = [_write_uuids(value, node) for value in values]
        return self._pa.array(values, kind)

    def _lay_out_units(self, values: Sequence[int], kind: Any) -> Any:
        """Write scaled integers as decimal128: 16 bytes each, little-endian, no Decimal between."""
        words = array("q", bytes(16 * len(values)))
        words[0::2] = array("q", values)
        words[1::2] = array("q", [-1 if value < 0 else 0 for value in values])
        return self._pa.Array.from_buffers(kind, len(values), [None, self._pa.py_buffer(words)])

    def _type_of(self, node: Node) -> Any:
        pa = self._pa
        match node.kind:
            case Kind.DECIMAL:
                if node.precision > _ARROW_DIGITS:
                    raise UnsupportedSchemaError(
                        f"Arrow with a decimal of {node.precision} digits", "use decode_many"
                    )
                wide = node.precision > 38
                return (pa.decimal256 if wide else pa.decimal128)(node.precision, node.scale)
            case Kind.TIMESTAMP_MILLIS:
                return pa.timestamp("ms", "UTC")
            case Kind.TIMESTAMP_MICROS:
                return pa.timestamp("us", "UTC")
            case Kind.ARRAY:
                return pa.list_(self._type_of(node.children[0]))
            case Kind.MAP:
                return pa.map_(pa.string(), self._type_of(node.children[0]))
            case Kind.RECORD:
                fields = zip(node.names, node.children, strict=True)
                return pa.struct([(name, self._type_of(child)) for name, child in fields])
            case _:
                return pa.type_for_alias(_ALIASES[node.kind])


def _holds(node: Node, kind: Kind) -> bool:
    return node.kind is kind or any(_holds(child, kind) for child in node.children)


def _write_uuids(value: Any, node: Node) -> Any:
    """Return a value with its UUIDs as text, at any depth."""
    match node.kind:
        case Kind.UUID:
            return None if value is None else str(value)
        case Kind.ARRAY if value is not None:
            return [_write_uuids(item, node.children[0]) for item in value]
        case Kind.MAP if value is not None:
            return {key: _write_uuids(item, node.children[0]) for key, item in value.items()}
        case Kind.RECORD if value is not None:
            fields = zip(node.names, node.children, strict=True)
            return {name: _write_uuids(value[name], child) for name, child in fields}
    return value
