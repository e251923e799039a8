"""Pipelines: names and glue; the work itself lives in the domain packages."""
