"""Parts of the model as fused operations for CPUs, in C++; torch's own operations are their oracle."""
