"""The theory of transfer between tasks, run: computations, records, summary, figures and report."""
