"""The built-in sample: faces drawn from a seed, and two small networks pretrained on drawings.

Read `dataset.py` first, then `faces.py` and `objects.py`, then `pretrain.py`.
"""
