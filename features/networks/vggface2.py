"""The ResNet-50 and SE-ResNet-50 of VGGFace2, as released for Caffe.

Cao et al., "VGGFace2: A dataset for recognising faces across pose and age", FG 2018, arXiv
1710.08092. They differ from torchvision's ResNet-50: the first pool has no padding and rounds up,
and a stage's stride stands on its first 1 x 1 convolution. Names are those of the release, `/`
written `_`, as the PyTorch files of these networks have them; a Scale is part of its batch norm.
"""

from torch import Tensor, nn

STAGES = ((2, 64, 3), (3, 128, 4), (4, 256, 6), (5, 512, 3))  # number, width, blocks


def resnet50(num_classes: int = 8631) -> nn.Module:
    """ResNet-50 for 224 x 224 faces."""
    return VGGFace2Network(num_classes, gated=False)


def senet50(num_classes: int = 8631) -> nn.Module:
    """ResNet-50 with squeeze and excitation for 224 x 224 faces."""
    return VGGFace2Network(num_classes, gated=True)


class VGGFace2Network(nn.Module):
    """All modules stand side by side under their full names."""

    def __init__(self, num_classes: int, gated: bool) -> None:
        """`gated` adds squeeze and excitation to every block."""
        super().__init__()
        self.gated = gated
        self.blocks: list[str] = []
        self._convolution("conv1_7x7_s2", 3, 64, 7, stride=2)  # (64, 112, 112)
        self.conv1_relu_7x7_s2 = nn.ReLU(inplace=True)
        self.pool1_3x3_s2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (64, 56, 56)
        channels = 64
        for stage, width, blocks in STAGES:
            for block in range(1, blocks + 1):
                stride = 2 if block == 1 and stage > 2 else 1
                self._block(f"conv{stage}_{block}", channels, width, stride)
                channels = 4 * width
        self.pool5_7x7_s1 = nn.AvgPool2d(7, stride=1)  # (2048, 1, 1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, 3, 224, 224)` to `(n, classes)`."""
        x = self.pool1_3x3_s2(self.conv1_relu_7x7_s2(self._normalised("conv1_7x7_s2", x)))
        for name in self.blocks:
            x = self._through(name, x)
        scores: Tensor = self.classifier(self.pool5_7x7_s1(x))
        return scores.flatten(1)

    def _block(self, name: str, channels: int, width: int, stride: int) -> None:
        self.blocks.append(name)
        self._convolution(f"{name}_1x1_reduce", channels, width, 1, stride)
        self.add_module(f"{name}_1x1_reduce_relu", nn.ReLU(inplace=True))
        self._convolution(f"{name}_3x3", width, width, 3)
        self.add_module(f"{name}_3x3_relu", nn.ReLU(inplace=True))
        self._convolution(f"{name}_1x1_increase", width, 4 * width, 1)
        if self.gated:
            self.add_module(f"{name}_global_pool", nn.AdaptiveAvgPool2d(1))
            self.add_module(f"{name}_1x1_down", nn.Conv2d(4 * width, width // 4, 1))
            self.add_module(f"{name}_1x1_down_relu", nn.ReLU(inplace=True))
            self.add_module(f"{name}_1x1_up", nn.Conv2d(width // 4, 4 * width, 1))
            self.add_module(f"{name}_prob", nn.Sigmoid())
        if channels != 4 * width:
            self._convolution(f"{name}_1x1_proj", channels, 4 * width, 1, stride)
        self.add_module(f"{name}_relu", nn.ReLU(inplace=True))

    def _through(self, name: str, x: Tensor) -> Tensor:
        y = x
        for kind in ("1x1_reduce", "3x3"):
            y = self._call(f"{name}_{kind}_relu", self._normalised(f"{name}_{kind}", y))
        y = self._normalised(f"{name}_1x1_increase", y)
        if self.gated:
            gate = y
            for kind in ("global_pool", "1x1_down", "1x1_down_relu", "1x1_up", "prob"):
                gate = self._call(f"{name}_{kind}", gate)
            y = gate * y
        if hasattr(self, f"{name}_1x1_proj"):
            x = self._normalised(f"{name}_1x1_proj", x)
        return self._call(f"{name}_relu", y + x)

    def _convolution(
        self, name: str, channels: int, out: int, kernel: int, stride: int = 1
    ) -> None:
        pad = kernel // 2
        self.add_module(name, nn.Conv2d(channels, out, kernel, stride, pad, bias=False))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(out))

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        return self._call(f"{name}_bn", self._call(name, x))

    def _call(self, name: str, x: Tensor) -> Tensor:
        y: Tensor = getattr(self, name)(x)
        return y
