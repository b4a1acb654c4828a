"""Bytes of every published version of every message, to be read for ever. `add` writes those of a new
version."""
