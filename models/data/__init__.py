"""Data on the device: image and text examples, batches of an epoch, augmentation, placement in memory."""
