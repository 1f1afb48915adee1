"""Kraken spot, WebSocket v2, channel `trade`.

Protocol: Kraken API centre, websocket-v2/trade. A frame holds many trades: each counts. `trade_id`
is contiguous per book. Prices and quantities are bare JSON numbers whose text is taken as it is,
never through a float. `side` is the taker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from k2_schemas import FieldError, InstrumentList, SchemaError, Side, Trade

from ..errors import SubscriptionRejectedError
from ..venue import Decoded, TradeFactories

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SIDES: dict[str, Side] = {"buy": "BUY", "sell": "SELL"}


class _Envelope(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()
    method: str = ""
    success: bool | None = None
    error: str | None = None


class _Trade(msgspec.Struct):
    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: int
    timestamp: datetime
    ord_type: str = ""


class Kraken:
    """Kraken spot. `symbols` are canonical (`BTC/USD`; XBT and XDG are understood too)."""

    name = "kraken"

    def __init__(self, symbols: Iterable[str], base_url: str = "wss://ws.kraken.com") -> None:
        self.instruments = InstrumentList(self.name, symbols)
        self._base_url = base_url
        self._factories = TradeFactories(self.instruments)
        self._envelopes = msgspec.json.Decoder(_Envelope)
        self._batches = msgspec.json.Decoder(list[msgspec.Raw])
        self._trades = msgspec.json.Decoder(_Trade)

    @property
    def url(self) -> str:
        """The v2 endpoint."""
        return f"{self._base_url}/v2"

    def subscribe_frames(self) -> Sequence[str]:
        """Return one request for all symbols; `snapshot` is explicit, its default has changed."""
        params = {
            "channel": "trade",
            "symbol": [instrument.pair for instrument in self.instruments],
            "snapshot": True,
        }
        request = {"method": "subscribe", "params": params, "req_id": 1}
        return [msgspec.json.encode(request).decode()]

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Decode one frame; see `Venue.decode`. A bad trade does not hold back its neighbours."""
        try:
            envelope = self._envelopes.decode(frame)
            if envelope.channel == "trade":
                return self._decode_batch(self._batches.decode(envelope.data), recv_us)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Decoded(rejections=(str(error),))
        if envelope.channel:
            return Decoded(control=envelope.channel)
        return self._decode_reply(envelope)

    def _decode_batch(self, batch: Iterable[msgspec.Raw], recv_us: int) -> Decoded:
        trades: list[Trade] = []
        rejections: list[str] = []
        for raw in batch:
            try:
                trades.append(self._build_trade(self._trades.decode(raw), recv_us))
            except (
                msgspec.MsgspecError,
                UnicodeDecodeError,
                RecursionError,
                SchemaError,
            ) as error:
                rejections.append(str(error))
        return Decoded(trades, rejections)

    def _build_trade(self, raw: _Trade, recv_us: int) -> Trade:
        if raw.timestamp.tzinfo is None:
            raise FieldError("timestamp", raw.timestamp, "has no time zone")
        # v2 writes BTC/USD; XBT/USD still appears in recordings and in REST names.
        pair = self.instruments.find(raw.symbol).pair
        return self._factories[pair].make(
            raw.trade_id,
            _number_text(raw.price),
            _number_text(raw.qty),
            _SIDES[raw.side],
            (raw.timestamp - _EPOCH) // _MICROSECOND,
            recv_us,
            {"pair": pair, "ord_type": raw.ord_type},
        )

    def _decode_reply(self, envelope: _Envelope) -> Decoded:
        if envelope.success is False or envelope.error:
            raise SubscriptionRejectedError(self.name, envelope.error or "no reason given")
        if envelope.method:
            return Decoded(control="acknowledgement")
        return Decoded(rejections=("JSON, but no frame that Kraken v2 is known to send",))


def _number_text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode().strip('"')
