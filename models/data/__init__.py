"""Data on the device: image and text examples, batches of an epoch, placement in memory."""
