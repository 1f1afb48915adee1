"""A replay exchange and its ledger, for our tests, the demo, and your own client."""

from .conformance import Payloads, check_venue
from .emission import Emission, SentTrade
from .exchange import ReplayExchange
from .fault import CURABLE, Fault, draw_faults
from .ledger import Ledger
from .market import MarketModel
from .playback import Recording, keep_epoch, open_recording, open_recordings, play_model
from .publisher import MemoryPublisher

__all__ = [
    "CURABLE",
    "Emission",
    "Fault",
    "Ledger",
    "MarketModel",
    "MemoryPublisher",
    "Payloads",
    "Recording",
    "ReplayExchange",
    "SentTrade",
    "check_venue",
    "draw_faults",
    "keep_epoch",
    "open_recording",
    "open_recordings",
    "play_model",
]
