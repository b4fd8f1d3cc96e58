"""The networks that torchvision does not have, one file each, named after their papers."""

from features.networks.caffenet import bvlc_alexnet, caffenet
from features.networks.gilnet import gilnet
from features.networks.googlenet import googlenet_bvlc
from features.networks.mobilefacenet import mobilefacenet
from features.networks.pixels import pixels
from features.networks.tiny import tiny
from features.networks.vggface2 import resnet50, senet50

__all__ = [
    "bvlc_alexnet",
    "caffenet",
    "gilnet",
    "googlenet_bvlc",
    "mobilefacenet",
    "pixels",
    "resnet50",
    "senet50",
    "tiny",
]
