"""HDF5 to knowledge: folds, probes, statistics, curves, the report."""
