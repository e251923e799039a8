"""Training runs: what one is made of, and how it goes from tables to a checkpoint, by one process or several."""
