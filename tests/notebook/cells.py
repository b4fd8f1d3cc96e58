"""A notebook of ten cells, as a script: from images to predictions, run by test_cells.py."""

# %% A network over 100 drawn faces, and the study that it makes.
import numpy as np

from probe import compare, export, extract, fit, load_probe, open_study
from probe.sklearn import LogisticProbeCV

extract("study", "sample-faces", data="sample", layers=["conv3", "fc6"], limit=100)
(study := open_study("study"))

# %% Probes on every layer.
fit("study", tasks=["light"], probes=["logistic"])
study.results()

# %% The same as arrays.
arrays = study.results().to_dict()
list(zip(arrays["layer"], arrays["method"], arrays["accuracy"].round(2), strict=True))[:3]

# %% Features: rows as images.csv, NaN where there are none yet.
(features := study.features("sample-faces"))

# %% Accuracy over depth.
study.curve("light")

# %% Another metric, as a figure of matplotlib.
(figure := study.curve("light", "balanced").figure())

# %% Two results, compared on the same images.
compare("study", "sample-faces/fc6/logistic", "sample-faces/conv3/logistic", tasks=["light"])

# %% A probe of one's own on the features.
x, y = features["fc6"], study.labels("light")
known = ~np.isnan(x).any(1)
LogisticProbeCV().fit(x[known], y[known], groups=study.subjects[known])

# %% The best result as one file.
(exported,) = export("study", "sample-faces/best/logistic", tasks=["light"])
(probe := load_probe(exported.file))

# %% What it says of images.
probe.predict([study.root / path for path in study.paths[-4:]])
