"""Augmentation of training images: operations, policies, and the random draws of both."""
