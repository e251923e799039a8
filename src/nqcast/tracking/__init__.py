"""Experiment tracking: a run writes its news to a local spool, a daemon thread brings them to MLflow.

The only package that imports mlflow, and only inside that thread.
"""
