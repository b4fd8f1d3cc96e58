"""The formats in which weights are published, one file each; read `recognise.py` first.

Every reader yields `Blobs`: named tensors in PyTorch's layout. A file is data: nothing in it is
ever executed, and what only a C library can parse is parsed in a process of its own (`sandbox.py`).
"""

FORMATS = ("matconvnet", "keras", "safetensors", "pytorch", "npz", "torch7", "caffe")
"""Each is named after the file here that reads it, which has two functions: `recognise(path, head, size)`,
whether a file that begins with the bytes `head` is of this format, and `read(path)`, its `Blobs`. Files are
held against the formats in this order; Caffe's has no magic number and so is the last."""
