"""Radera's handler for the help desk."""
