"""What a bar is: vendor files, sessions, the 5-minute grid and the joined contract series."""

from nqcast.lazy import lazily

_HOME = {
    "IngestConfig": "config",
    "Ingested": "ingest",
    "build_bars": "ingest",
    "check_raw_bars": "schema",
    "read_bars": "vendor",
    "trading_sessions": "calendar",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
