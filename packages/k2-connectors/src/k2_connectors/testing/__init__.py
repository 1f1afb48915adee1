"""A replay exchange and its ledger, for our tests, the demo, and your own client."""

from .emission import Emission, SentTrade
from .exchange import ReplayExchange
from .ledger import Ledger
from .market import MarketModel
from .playback import Recording, keep_epoch, open_recording, play_model
from .publisher import MemoryPublisher

__all__ = [
    "Emission",
    "Ledger",
    "MarketModel",
    "MemoryPublisher",
    "Recording",
    "ReplayExchange",
    "SentTrade",
    "keep_epoch",
    "open_recording",
    "play_model",
]
