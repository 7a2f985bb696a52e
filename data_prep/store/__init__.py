"""Stores of decoded images: built from a folder or from archives, opened with every hash checked, checked by rules."""
