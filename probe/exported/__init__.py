"""Exports: a result fitted once more on all rows, as one file, and what it says of new images."""
