"""The two AlexNets of BVLC Caffe: CaffeNet, which pools before it normalises, and AlexNet.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012; shapes, groups and initial values from the published prototxts.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn


def caffenet(num_classes: int = 1000) -> nn.Module:
    """The BVLC reference CaffeNet for 227 x 227 images: convolution, ReLU, pool, norm."""
    return _alexnet(("pool", "norm"), bias=1.0, num_classes=num_classes)


def bvlc_alexnet(num_classes: int = 1000) -> nn.Module:
    """BVLC's AlexNet for 227 x 227 images: convolution, ReLU, norm, pool, as in the paper."""
    return _alexnet(("norm", "pool"), bias=0.1, num_classes=num_classes)


def _alexnet(order: tuple[str, str], bias: float, num_classes: int) -> nn.Module:
    after: dict[str, Callable[[], nn.Module]] = {
        "pool": lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "norm": lambda: nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0),
    }
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(3, 96, 11, stride=4)  # (96, 55, 55)
    layers["relu1"] = nn.ReLU(inplace=True)
    layers.update({f"{kind}1": after[kind]() for kind in order})  # (96, 27, 27)
    layers["conv2"] = nn.Conv2d(96, 256, 5, padding=2, groups=2)
    layers["relu2"] = nn.ReLU(inplace=True)
    layers.update({f"{kind}2": after[kind]() for kind in order})  # (256, 13, 13)
    layers["conv3"] = nn.Conv2d(256, 384, 3, padding=1)
    layers["relu3"] = nn.ReLU(inplace=True)
    layers["conv4"] = nn.Conv2d(384, 384, 3, padding=1, groups=2)
    layers["relu4"] = nn.ReLU(inplace=True)
    layers["conv5"] = nn.Conv2d(384, 256, 3, padding=1, groups=2)
    layers["relu5"] = nn.ReLU(inplace=True)
    layers["pool5"] = after["pool"]()  # (256, 6, 6)
    layers["flatten"] = nn.Flatten()
    layers["fc6"] = nn.Linear(256 * 6 * 6, 4096)
    layers["relu6"] = nn.ReLU(inplace=True)
    layers["drop6"] = nn.Dropout(0.5)
    layers["fc7"] = nn.Linear(4096, 4096)
    layers["relu7"] = nn.ReLU(inplace=True)
    layers["drop7"] = nn.Dropout(0.5)
    layers["fc8"] = nn.Linear(4096, num_classes)
    for name, module in layers.items():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.005 if name in ("fc6", "fc7") else 0.01)
            assert module.bias is not None
            nn.init.constant_(module.bias, 0.0 if name in ("conv1", "conv3", "fc8") else bias)
    return nn.Sequential(layers)
