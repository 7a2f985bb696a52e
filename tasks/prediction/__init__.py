"""Predictions of a registered model on files and folders of images, without labels."""
