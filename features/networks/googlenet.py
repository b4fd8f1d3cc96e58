"""GoogLeNet as BVLC trained it in Caffe, without the two auxiliary classifiers of its training.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv 1409.4842; names, shapes and
initial values from the published prototxt. Torchvision's GoogLeNet is another network: it has batch
norm, and 3 x 3 where the paper has 5 x 5.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

WIDTHS = {  # 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}


def googlenet_bvlc(num_classes: int = 1000) -> nn.Module:
    """BVLC's GoogLeNet for 224 x 224 images; modules nest where the prototxt's names have `/`."""
    inceptions: dict[str, nn.Module] = {}
    channels = 192
    for name, widths in WIDTHS.items():
        inceptions[name] = Inception(channels, widths)
        channels = widths[0] + widths[2] + widths[4] + widths[5]

    def stage(number: str) -> dict[str, nn.Module]:
        return {name: module for name, module in inceptions.items() if number in name}

    net = _named(
        conv1=_named(**_convolution("7x7_s2", 3, 64, 7, stride=2)),  # (64, 112, 112)
        pool1=_named(**{"3x3_s2": _pool(), "norm1": _norm()}),  # (64, 56, 56)
        conv2=_named(
            **_convolution("3x3_reduce", 64, 64, 1),
            **_convolution("3x3", 64, 192, 3),
            norm2=_norm(),
        ),
        pool2=_named(**{"3x3_s2": _pool()}),  # (192, 28, 28)
        **stage("3"),
        pool3=_named(**{"3x3_s2": _pool()}),  # (480, 14, 14)
        **stage("4"),
        pool4=_named(**{"3x3_s2": _pool()}),  # (832, 7, 7)
        **stage("5"),
        pool5=_named(**{"7x7_s1": nn.AvgPool2d(7, stride=1), "drop_7x7_s1": nn.Dropout(0.4)}),
        flatten=nn.Flatten(),  # (1024,)
        loss3=_named(classifier=nn.Linear(channels, num_classes)),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            spread = (3.0 / module.weight[0].numel()) ** 0.5  # Caffe's xavier: inputs alone count
            nn.init.uniform_(module.weight, -spread, spread)
            assert module.bias is not None
            nn.init.constant_(module.bias, 0.2 if isinstance(module, nn.Conv2d) else 0.0)
    return net


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _convolution(
    name: str, channels: int, out: int, kernel: int, stride: int = 1
) -> dict[str, nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2)
    return {name: convolution, f"relu_{name.removesuffix('_s2')}": nn.ReLU(inplace=True)}


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _norm() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


class Inception(nn.Module):
    """Four branches on the same input, concatenated along the channels."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        """`widths` are the channels of each convolution, in the order of the prototxt."""
        super().__init__()
        out1, reduce3, out3, reduce5, out5, projection = widths
        modules: dict[str, nn.Module] = {
            **_convolution("1x1", channels, out1, 1),
            **_convolution("3x3_reduce", channels, reduce3, 1),
            **_convolution("3x3", reduce3, out3, 3),
            **_convolution("5x5_reduce", channels, reduce5, 1),
            **_convolution("5x5", reduce5, out5, 5),
            "pool": nn.MaxPool2d(3, stride=1, padding=1),
            **_convolution("pool_proj", channels, projection, 1),
            "output": Concatenation(),
        }
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels, h, w)` to `(n, channels of all branches, h, w)`."""
        return self.output(  # type: ignore[no-any-return, operator]
            self._branch(x, "1x1"),
            self._branch(self._branch(x, "3x3_reduce"), "3x3"),
            self._branch(self._branch(x, "5x5_reduce"), "5x5"),
            self._branch(self.pool(x), "pool_proj"),  # type: ignore[operator]
        )

    def _branch(self, x: Tensor, name: str) -> Tensor:
        y: Tensor = getattr(self, f"relu_{name}")(getattr(self, name)(x))
        return y


class Concatenation(nn.Module):
    """The branches of an inception, channel after channel; a module, so that it can be a layer."""

    def forward(self, *branches: Tensor) -> Tensor:
        """`(n, channels, h, w)` each."""
        return torch.cat(branches, 1)
