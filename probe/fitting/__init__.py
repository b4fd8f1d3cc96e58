"""Probes over a study's layers and folds: the plan, cross-validation, the choice of a layer."""
