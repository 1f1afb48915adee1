"""Errors of the lake's process; what flows and tables raise is in `k2_medallion.errors`.

LakeError
└── MetricsPortError    metrics cannot be served where they are configured
"""

from __future__ import annotations


class LakeError(Exception):
    """Base of every error of this process's own."""


class MetricsPortError(LakeError):
    """Metrics cannot be served where they are configured."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        self.reason = reason
        super().__init__(
            f"metrics cannot be served on {host}:{port} ({reason}); choose another "
            "lake.metrics_port or lake.metrics_host"
        )
