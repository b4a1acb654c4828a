"""The planted faults, one module for each room of the product.

A module here holds one tuple, `FAULTS`. It imports nothing of the product: the product is loaded after the
fault is planted.
"""
