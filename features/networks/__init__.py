"""The networks that torchvision does not have, one file each, named after their papers."""

from features.networks.gilnet import gilnet
from features.networks.mobilefacenet import mobilefacenet
from features.networks.pixels import pixels

__all__ = ["gilnet", "mobilefacenet", "pixels"]
