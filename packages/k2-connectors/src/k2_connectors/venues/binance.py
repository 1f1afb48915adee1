"""Binance spot, `trade` streams on a combined socket.

Protocol: binance-spot-api-docs, web-socket-streams.md. `t` is the trade id, contiguous per symbol;
`T` is the match time, `E` the send time; `m` true means that the taker sold. Extra keys (`b` and
`a` before 2024-06) are tolerated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from k2_schemas import InstrumentList, SchemaError

from ..errors import SubscriptionRejectedError
from ..venue import Decoded, TradeFactories

_FIRST_MICROSECOND_STAMP = 10**14
"""Times at or above this are microseconds (timeUnit=MICROSECOND); as milliseconds: year 5138."""


_FRAME = b'{"stream":"%b","data":%b}'
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, SchemaError)


class _Envelope(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    e: str = ""
    id: int | str | None = None
    code: int | None = None
    msg: str = ""
    error: dict[str, Any] | None = None


class _Trade(msgspec.Struct, gc=False):
    e: Literal["trade"]
    E: int
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


def _frame_type(streams: Sequence[str]) -> Any:
    """Return the type of a combined stream's frame: one that is for no stream of ours is slower."""
    return msgspec.defstruct(
        "_TradeFrame", [("stream", Literal[tuple(streams)]), ("data", _Trade)], gc=False
    )


class Binance:
    """Binance spot. `symbols` are canonical (`BTC/USDT`)."""

    name = "binance"

    def __init__(
        self, symbols: Iterable[str], base_url: str = "wss://stream.binance.com:9443"
    ) -> None:
        self.instruments = InstrumentList(self.name, symbols)
        self._base_url = base_url
        self._factories = TradeFactories(self.instruments)
        self._streams = tuple(f"{i.pair.lower()}@trade" for i in self.instruments)
        self._decode_trade_frame = msgspec.json.Decoder(_frame_type(self._streams)).decode
        self._envelopes = msgspec.json.Decoder(_Envelope)

    @property
    def url(self) -> str:
        """The combined-stream endpoint; subscribing is by message, so that it is acknowledged."""
        return f"{self._base_url}/stream"

    def subscribe_frames(self) -> Sequence[str]:
        """Return one SUBSCRIBE request: five inbound messages a second is all Binance allows."""
        request = {"method": "SUBSCRIBE", "params": self._streams, "id": 1}
        return [msgspec.json.encode(request).decode()]

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Decode one frame; see `Venue.decode`."""
        try:
            raw = self._decode_trade_frame(frame).data
            trade = self._factories[raw.s].make(
                raw.t,
                raw.p,
                raw.q,
                "SELL" if raw.m else "BUY",
                raw.T if raw.T >= _FIRST_MICROSECOND_STAMP else raw.T * 1000,
                recv_us,
                {"pair": raw.s, "event_time": str(raw.E)},
            )
        except _DECODE_ERRORS as error:
            return self._decode_other(frame, recv_us, str(error))
        return Decoded((trade,))

    def _decode_other(self, frame: bytes, recv_us: int, reason: str) -> Decoded:
        """Decode what is not a good trade of a combined stream; `reason` says why it is not."""
        try:
            envelope = self._envelopes.decode(frame)
        except _DECODE_ERRORS as error:
            return Decoded(rejections=(str(error),))
        if envelope.stream in self._streams:
            return Decoded(rejections=(reason,))
        # A raw stream sends the trade alone, and a symbol not configured has another stream's name:
        # both made into the form of a combined stream that we know.
        if envelope.stream.endswith("@trade"):
            return self.decode(_FRAME % (self._streams[0].encode(), envelope.data), recv_us)
        if envelope.e == "trade" and not envelope.data:
            return self.decode(_FRAME % (self._streams[0].encode(), frame), recv_us)
        return self._decode_control(envelope)

    def _decode_control(self, envelope: _Envelope) -> Decoded:
        if envelope.code is not None or envelope.error:
            reason = envelope.msg or str(envelope.error or "")
            raise SubscriptionRejectedError(self.name, reason or f"code {envelope.code}")
        if "serverShutdown" in (envelope.e, envelope.stream.lstrip("!")):
            return Decoded(control="shutdown")
        if envelope.stream or envelope.e:
            return Decoded(control="other_stream")
        if envelope.id is not None:
            return Decoded(control="acknowledgement")
        return Decoded(rejections=("JSON, but no frame that Binance is known to send",))
