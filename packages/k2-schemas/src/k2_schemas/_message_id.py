"""Message ids: UUIDv5 (RFC 9562 §5.5) of a trade's identity, without building a UUID object."""

from __future__ import annotations

from hashlib import sha1
from typing import Any


class PythonMessageIds:
    """UUIDv5 texts of `EXCHANGE|pair|trade id` in one namespace."""

    def __init__(self, namespace: bytes) -> None:
        self.namespace = namespace

    def derive(self, exchange: str, pair: str, trade_id: str) -> str:
        """Return the id of a trade from its three parts."""
        name = f"{exchange}|{pair}|{trade_id}".encode()
        digest = bytearray(sha1(self.namespace + name, usedforsecurity=False).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x50
        digest[8] = digest[8] & 0x3F | 0x80
        text = digest.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def of_trade(self, trade: Any) -> str:
        """Return the id of an object with `exchange`, `vendor_data` and `trade_id`."""
        return self.derive(trade.exchange, trade.vendor_data["pair"], trade.trade_id)
