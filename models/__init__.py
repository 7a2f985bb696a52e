"""Tensors in, tensors out: data on the device, networks, weighting, training, evaluation, theory."""
