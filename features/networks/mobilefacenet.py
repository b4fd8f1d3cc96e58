"""MobileFaceNet: a light network for face verification.

Chen, Liu, Gao, Han, "MobileFaceNets", CCBR 2018, arXiv 1804.07573, table 1. Module names are those
of the published PyTorch checkpoints.
"""

import torch
from torch import Tensor, nn

STAGES = (  # expansion, channels, repeats, stride of the first
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


class ConvBlock(nn.Module):
    """Convolution, batch norm and, unless `linear`, PReLU."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        """Build the block with `out` output channels."""
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.prelu = nn.Identity() if linear else nn.PReLU(out)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels, h, w)` to `(n, out, h', w')`."""
        return self.prelu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """Inverted residual: 1x1 up, depthwise 3x3, 1x1 down; a skip where the shapes agree."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        """Build the block; `channels * expansion` channels inside."""
        super().__init__()
        wide = channels * expansion
        self.skip = stride == 1 and channels == out
        self.conv = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels, h, w)` to `(n, out, h / stride, w / stride)`."""
        y = self.conv(x)
        return x + y if self.skip else y  # type: ignore[no-any-return]


class MobileFaceNet(nn.Module):
    """112 x 96 face crops to 128-d descriptors."""

    def __init__(self) -> None:
        """Build the network with PyTorch's initial weights."""
        super().__init__()
        self.conv1 = ConvBlock(3, 64, 3, 2, 1)  # (64, 56, 48)
        self.dw_conv1 = ConvBlock(64, 64, 3, 1, 1, groups=64)
        blocks: list[nn.Module] = []
        channels = 64
        for expansion, out, repeats, stride in STAGES:
            for i in range(repeats):
                blocks.append(Bottleneck(channels, out, stride if i == 0 else 1, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)  # (128, 7, 6)
        self.conv2 = ConvBlock(128, 512, 1)
        self.linear7 = ConvBlock(512, 512, (7, 6), groups=512, linear=True)  # (512, 1, 1)
        self.linear1 = ConvBlock(512, 128, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 3, 112, 96)` to `(n, 128)`."""
        x = self.blocks(self.dw_conv1(self.conv1(x)))
        return torch.flatten(self.linear1(self.linear7(self.conv2(x))), 1)


def mobilefacenet() -> nn.Module:
    """A MobileFaceNet for crops 112 high and 96 wide."""
    return MobileFaceNet()
