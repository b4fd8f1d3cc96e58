"""One classifier on one training set: linear by our own solver, nearest neighbours, scaling."""
