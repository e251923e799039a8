"""What a bar is: vendor files, sessions, the 5-minute grid and the joined contract series."""

from nqcast.lazy import lazily

__all__, __getattr__ = lazily(
    __name__,
    config="IngestConfig",
    ingest="Ingested build_bars",
    schema="check_raw_bars",
    vendor="read_bars",
    calendar="trading_sessions",
)
