"""Networks trained over a study's folds: the plan, a fold, its file, devices, the commit."""
