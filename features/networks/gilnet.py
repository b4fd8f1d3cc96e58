"""GilNet: the small network that Levi and Hassner trained on Adience from scratch.

Levi, Hassner, "Age and Gender Classification using Convolutional Neural Networks", CVPRW 2015;
shapes and initial values from the published prototxt.
"""

from collections import OrderedDict

from torch import nn


def gilnet(num_classes: int = 8) -> nn.Module:
    """GilNet for 227 x 227 images, 8 age classes or 2 genders.

    Pooling rounds up as Caffe does, so that fc6 reads 384 x 7 x 7; rounding down would give 6 x 6
    and another network. Modules carry the prototxt's names.
    """

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    net = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 96, 7, stride=4),  # (96, 56, 56)
            relu1=nn.ReLU(inplace=True),
            pool1=pool(),  # (96, 28, 28)
            norm1=norm(),
            conv2=nn.Conv2d(96, 256, 5, padding=2),
            relu2=nn.ReLU(inplace=True),
            pool2=pool(),  # (256, 14, 14)
            norm2=norm(),
            conv3=nn.Conv2d(256, 384, 3, padding=1),
            relu3=nn.ReLU(inplace=True),
            pool5=pool(),  # (384, 7, 7)
            flatten=nn.Flatten(),
            fc6=nn.Linear(384 * 7 * 7, 512),
            relu6=nn.ReLU(inplace=True),
            drop6=nn.Dropout(0.5),
            fc7=nn.Linear(512, 512),
            relu7=nn.ReLU(inplace=True),
            drop7=nn.Dropout(0.5),
            fc8=nn.Linear(512, num_classes),
        )
    )
    spread = {"fc6": 0.005, "fc7": 0.005}
    ones = ("conv2", "fc6", "fc7")
    for name, module in net.named_children():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=spread.get(name, 0.01))
            assert module.bias is not None
            nn.init.constant_(module.bias, 1.0 if name in ones else 0.0)
    return net
