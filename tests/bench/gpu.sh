#!/bin/bash
# What an accelerator proves and gives, in one call of under nine minutes, without a network:
#
#     bash tests/bench/gpu.sh                              # on the CUDA device that is there
#     bash tests/bench/gpu.sh --device simulated --tiny    # its own trial, on the processor
#
# Needs PyTorch, torchvision, h5py and scikit-learn (and pytest for the device tests); asks nothing of the command
# line `probe`. Sections come in the order of their worth; what is not reached says so. Writes gpu.json and gpu.md
# into $OUT, else into the folder it is called in, after every figure.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
export PYTHONPATH="$here:$here/tests${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PROBE_OFFLINE=1
export PROBE_HOME="${PROBE_HOME:-$(mktemp -d)}" PROBE_TRUST=1
exec timeout --signal=INT --kill-after=10 530 "${PYTHON:-python3}" "$here/tests/bench/gpu.py" --out "${OUT:-.}" "$@"
