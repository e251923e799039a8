"""Kedro hooks of the project itself: parameters, signals, storage, progress, and the summary that ends a run."""
