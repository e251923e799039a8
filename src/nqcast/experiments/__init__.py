"""Many runs for one answer: walk-forward, ablations, tuning, the leak prover."""
