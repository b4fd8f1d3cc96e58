"""Images to HDF5: cards and networks, weights, data sets, extraction, the feature file."""
