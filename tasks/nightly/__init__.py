"""The nightly pipeline: what is new, whether it drifts, a challenger, the gate, and the pages of a night and a series."""
