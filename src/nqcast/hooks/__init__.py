"""Kedro hooks of the project itself: parameters, signals, storage, and what a run shows on its terminal."""
