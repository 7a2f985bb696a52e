"""Labels: label tables, opaque patient keys, train/validation/test splits by patient, and adjudicated labels."""
