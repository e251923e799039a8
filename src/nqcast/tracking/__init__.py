"""Experiment tracking: a run writes its news to a local spool, a daemon thread brings them to MLflow.

    hook, logger     a TrackedRun is opened, takes news and is closed: by Kedro's events, or by MlflowLogger without it
    tail             what a run does not report itself: lines of a Trainer's metrics.jsonl, memory and load
    spool            news on disk: held while a process lives, ended or not when it has died, gone once all is sent
    replay           Delivery sends a spool from where the store has acknowledged it; a later run sends what waits
    store, registry  MLflow: where it is, calls that may be repeated, versions of the model and which is the champion

The only package that imports mlflow, and only inside that thread.
"""
