"""Task weightings: Algorithm 2 (SVD), scalarization, gradient aggregation, label trust, the oracle, the registry."""
