"""The probes as estimators of scikit-learn, for people with features of their own."""

from __future__ import annotations

from probe.sklearn.estimators import LogisticProbeCV, RidgeProbeCV, SVMProbeCV

__all__ = ["LogisticProbeCV", "RidgeProbeCV", "SVMProbeCV"]
