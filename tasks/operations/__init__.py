"""Operating the pipeline: what a person runs now and then beside it."""
