"""Bytes in, arrays out: fetch, decode, label, store; noise, phantom and texts. Knows no torch."""
