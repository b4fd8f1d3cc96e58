"""The small network of the built-in sample: the layers of AlexNet at a three-hundredth of its size."""

from collections import OrderedDict

from torch import nn


def small(num_classes: int = 48) -> nn.Module:
    """A network for 96 x 96 RGB images, 205 thousand parameters with 48 classes.

    Random weights follow He's rule and so keep the variance of activations, with the
    batch norms doing nothing: the untrained network is as good as an untrained one can be.
    """
    net = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False),  # (16, 48, 48)
            norm1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(inplace=True),
            pool1=nn.MaxPool2d(2),  # (16, 24, 24)
            conv2=nn.Conv2d(16, 32, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(inplace=True),
            pool2=nn.MaxPool2d(2),  # (32, 12, 12)
            conv3=nn.Conv2d(32, 48, 3, padding=1, bias=False),
            norm3=nn.BatchNorm2d(48),
            relu3=nn.ReLU(inplace=True),
            conv4=nn.Conv2d(48, 64, 3, padding=1, bias=False),
            norm4=nn.BatchNorm2d(64),
            relu4=nn.ReLU(inplace=True),
            conv5=nn.Conv2d(64, 64, 3, padding=1, bias=False),
            norm5=nn.BatchNorm2d(64),
            relu5=nn.ReLU(inplace=True),
            pool5=nn.MaxPool2d(3),  # (64, 4, 4)
            flatten=nn.Flatten(),
            fc6=nn.Linear(64 * 4 * 4, 112),
            relu6=nn.ReLU(inplace=True),
            fc7=nn.Linear(112, num_classes),
        )
    )
    for module in net:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
