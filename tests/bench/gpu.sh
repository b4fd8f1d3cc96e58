#!/bin/bash
# What an accelerator proves and gives, in one call of under nine minutes, without a network:
#
#     bash tests/bench/gpu.sh                              # on the CUDA device that is there
#     bash tests/bench/gpu.sh --device simulated --tiny    # its own trial, on the processor
#
# Needs PyTorch, torchvision, h5py, scikit-learn, SciPy, Pillow, rich, tomlkit and filelock 4.3 (bring the last two
# where they are missing or older), for the device tests pytest, typer and safetensors too; asks nothing of the command
# line `probe`. Sections come in the order of their worth; what is not reached says so. Writes gpu.json and gpu.md
# into $OUT, else into the folder it is called in, after every figure.
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
export PYTHONPATH="$here:$here/tests${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PROBE_OFFLINE=1
export PROBE_HOME="${PROBE_HOME:-$(mktemp -d)}" PROBE_TRUST=1
python="${PYTHON:-python3}"
if ! "$python" -c 'from importlib.metadata import version; version("transfer-probe")' 2>/dev/null; then
  # A checkout that is not installed lacks its version, which every feature file records.
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/pyproject.toml")
  about="$PROBE_HOME/checkout/transfer_probe-$version.dist-info"
  mkdir -p "$about"
  printf 'Metadata-Version: 2.1\nName: transfer-probe\nVersion: %s\n' "$version" > "$about/METADATA"
  export PYTHONPATH="$PYTHONPATH:$PROBE_HOME/checkout"
fi
exec timeout --signal=INT --kill-after=10 530 "$python" "$here/tests/bench/gpu.py" --out "${OUT:-.}" "$@"
