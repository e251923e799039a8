"""Training by several processes, on one host or several: ranks that give one process's result."""
