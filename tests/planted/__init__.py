"""Faults that are planted in the product, to see that the tests find each; README.md says how."""
