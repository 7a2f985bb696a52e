"""Data of a run: image stores, archives, text benchmarks, pretrained encoders and word vectors."""
