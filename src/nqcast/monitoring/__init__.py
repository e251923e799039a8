"""Whether the newest bars and outcomes are still those of training: drift of features, coverage, skill."""
