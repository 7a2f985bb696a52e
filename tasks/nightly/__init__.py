"""The nightly pipeline: what is new, does it drift, a challenger, the gate, the pages of a night and a series."""
