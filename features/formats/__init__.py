"""The formats in which weights are published, one file each; read `recognise.py` first.

Every reader yields `Blobs`: named tensors in PyTorch's layout. A file is data: nothing in it is
ever executed, and what only a C library can parse is parsed in a process of its own (`sandbox.py`).
"""
