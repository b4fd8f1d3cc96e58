"""Caffe: networks from their prototxt, weights from their caffemodel, means from binaryproto."""

from features.caffe.caffemodel import read_binaryproto, read_caffemodel
from features.caffe.network import network_from_prototxt
from features.caffe.tensors import fitted, named_tensors

__all__ = [
    "fitted",
    "named_tensors",
    "network_from_prototxt",
    "read_binaryproto",
    "read_caffemodel",
]
