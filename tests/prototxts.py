"""The published networks as prototxts, written out here as their authors have them."""

from collections.abc import Callable, Iterable


def layer(kind: str, name: str, bottoms: str | Iterable[str], top: str = "", more: str = "") -> str:
    bottoms = [bottoms] if isinstance(bottoms, str) else bottoms
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top or name}" {more} }}\n'


def conv(name: str, bottom: str, out: int, kernel: int, more: str = "") -> str:
    parameters = f"convolution_param {{ num_output: {out} kernel_size: {kernel} {more} }}"
    return layer("Convolution", name, bottom, more=parameters)


def relu(name: str, blob: str) -> str:
    return layer("ReLU", name, blob, blob)


def prelu(name: str, blob: str) -> str:
    return layer("PReLU", name, blob, blob)


def normalised(name: str, blob: str) -> str:
    scale = "scale_param { bias_term: true }"
    return layer("BatchNorm", name, blob, blob) + layer("Scale", f"{name}/scale", blob, blob, scale)


def pool(name: str, bottom: str, more: str = "kernel_size: 3 stride: 2") -> str:
    return layer("Pooling", name, bottom, more=f"pooling_param {{ {more} }}")


def norm(name: str, bottom: str) -> str:
    parameters = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
    return layer("LRN", name, bottom, more=parameters)


def dense(name: str, bottom: str, out: int) -> str:
    return layer("InnerProduct", name, bottom, more=f"inner_product_param {{ num_output: {out} }}")


def head(bottom: str, wide: int, classes: int) -> str:
    text = ""
    for i in "67":
        text += dense(f"fc{i}", bottom, wide) + relu(f"relu{i}", f"fc{i}")
        text += layer("Dropout", f"drop{i}", f"fc{i}", f"fc{i}")
        bottom = f"fc{i}"
    return text + dense("fc8", bottom, classes)


def alexnet(order: str) -> str:
    def after(i: int) -> str:
        if order == "pool norm":
            return pool(f"pool{i}", f"conv{i}") + norm(f"norm{i}", f"pool{i}")
        return norm(f"norm{i}", f"conv{i}") + pool(f"pool{i}", f"norm{i}")

    last = order.split()[1]
    text = conv("conv1", "data", 96, 11, "stride: 4") + relu("relu1", "conv1") + after(1)
    text += conv("conv2", f"{last}1", 256, 5, "pad: 2 group: 2") + relu("relu2", "conv2") + after(2)
    text += conv("conv3", f"{last}2", 384, 3, "pad: 1") + relu("relu3", "conv3")
    text += conv("conv4", "conv3", 384, 3, "pad: 1 group: 2") + relu("relu4", "conv4")
    text += conv("conv5", "conv4", 256, 3, "pad: 1 group: 2") + relu("relu5", "conv5")
    return text + pool("pool5", "conv5") + head("pool5", 4096, 1000)


def gilnet() -> str:
    text = conv("conv1", "data", 96, 7, "stride: 4") + relu("relu1", "conv1")
    text += pool("pool1", "conv1") + norm("norm1", "pool1")
    text += conv("conv2", "norm1", 256, 5, "pad: 2") + relu("relu2", "conv2")
    text += pool("pool2", "conv2") + norm("norm2", "pool2")
    text += conv("conv3", "norm2", 384, 3, "pad: 1") + relu("relu3", "conv3")
    return text + pool("pool5", "conv3") + head("pool5", 512, 8)


INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet() -> str:
    text = conv("conv1/7x7_s2", "data", 64, 7, "stride: 2 pad: 3")
    text += relu("conv1/relu_7x7", "conv1/7x7_s2") + pool("pool1/3x3_s2", "conv1/7x7_s2")
    text += norm("pool1/norm1", "pool1/3x3_s2") + conv("conv2/3x3_reduce", "pool1/norm1", 64, 1)
    text += relu("conv2/relu_3x3_reduce", "conv2/3x3_reduce")
    text += conv("conv2/3x3", "conv2/3x3_reduce", 192, 3, "pad: 1")
    text += relu("conv2/relu_3x3", "conv2/3x3") + norm("conv2/norm2", "conv2/3x3")
    text += pool("pool2/3x3_s2", "conv2/norm2")
    bottom = "pool2/3x3_s2"
    for number, widths in INCEPTIONS.items():
        name = f"inception_{number}"
        bottoms = [
            bottom,
            bottom,
            f"{name}/3x3_reduce",
            bottom,
            f"{name}/5x5_reduce",
            f"{name}/pool",
        ]
        kinds = ["1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"]
        text += pool(f"{name}/pool", bottom, "kernel_size: 3 stride: 1 pad: 1")
        for kind, below, width in zip(kinds, bottoms, widths, strict=True):
            kernel = int(kind[0]) if kind in ("3x3", "5x5") else 1
            text += conv(f"{name}/{kind}", below, width, kernel, f"pad: {kernel // 2}")
            text += relu(f"{name}/relu_{kind}", f"{name}/{kind}")
        parts = [f"{name}/{kind}" for kind in ("1x1", "3x3", "5x5", "pool_proj")]
        text += layer("Concat", f"{name}/output", parts)
        bottom = f"{name}/output"
        if number in ("3b", "4e"):
            text += pool(f"pool{number[0]}/3x3_s2", bottom)
            bottom = f"pool{number[0]}/3x3_s2"
    text += pool("pool5/7x7_s1", bottom, "pool: AVE kernel_size: 7 stride: 1")
    return text + dense("loss3/classifier", "pool5/7x7_s1", 1000)


def resnet(gated: bool, axpy: bool = True) -> str:
    """`axpy` False writes what a gate does in types that Caffe always had."""

    def unit(name: str, bottom: str, out: int, kernel: int, stride: int = 1) -> str:
        more = f"stride: {stride} pad: {kernel // 2} bias_term: false"
        return conv(name, bottom, out, kernel, more) + normalised(f"{name}/bn", name)

    text = unit("conv1/7x7_s2", "data", 64, 7, 2) + relu("conv1/relu_7x7_s2", "conv1/7x7_s2")
    text += pool("pool1/3x3_s2", "conv1/7x7_s2")
    below = "pool1/3x3_s2"
    for stage, width, blocks in ((2, 64, 3), (3, 128, 4), (4, 256, 6), (5, 512, 3)):
        for block in range(1, blocks + 1):
            name, stride = f"conv{stage}_{block}", 2 if block == 1 and stage > 2 else 1
            reduce, three, increase = f"{name}_1x1_reduce", f"{name}_3x3", f"{name}_1x1_increase"
            text += unit(reduce, below, width, 1, stride) + relu(f"{reduce}/relu", reduce)
            text += unit(three, reduce, width, 3) + relu(f"{three}/relu", three)
            text += unit(increase, three, 4 * width, 1)
            shortcut = below
            if block == 1:
                shortcut = f"{name}_1x1_proj"
                text += unit(shortcut, below, 4 * width, 1, stride)
            if gated:
                text += pool(f"{name}_pool", increase, "pool: AVE global_pooling: true")
                text += conv(f"{name}_1x1_down", f"{name}_pool", width // 4, 1)
                text += relu(f"{name}_1x1_down/relu", f"{name}_1x1_down")
                text += conv(f"{name}_1x1_up", f"{name}_1x1_down", 4 * width, 1)
                text += layer("Sigmoid", f"{name}_prob", f"{name}_1x1_up")
                if axpy:
                    text += layer("Axpy", name, [f"{name}_prob", increase, shortcut])
                else:
                    text += layer("Flatten", f"{name}_gate", f"{name}_prob")
                    gated_by = [increase, f"{name}_gate"]
                    text += layer(
                        "Scale", f"{name}_gated", gated_by, more="scale_param { axis: 0 }"
                    )
                    text += layer("Eltwise", name, [f"{name}_gated", shortcut])
            else:
                text += layer("Eltwise", name, [increase, shortcut])
            text += relu(f"{name}/relu", name)
            below = name
    text += pool("pool5/7x7_s1", below, "pool: AVE kernel_size: 7 stride: 1")
    return text + dense("classifier", "pool5/7x7_s1", 8631)


def torchvision_alexnet() -> str:
    text, bottom = "", "data"
    rows = ((64, 11, "stride: 4 pad: 2"), (192, 5, "pad: 2"), (384, 3, "pad: 1"))
    for i, (out, kernel, more) in enumerate((*rows, (256, 3, "pad: 1"), (256, 3, "pad: 1")), 1):
        text += conv(f"conv{i}", bottom, out, kernel, more) + relu(f"relu{i}", f"conv{i}")
        bottom = f"conv{i}"
        if i in (1, 2, 5):
            bottom = f"pool{i}"
            text += pool(bottom, f"conv{i}")
    return text + head(bottom, 4096, 1000)


def vgg16(classes: int) -> str:
    text, bottom = "", "data"
    for stage, (width, repeats) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for i in range(1, repeats + 1):
            name = f"conv{stage}_{i}"
            text += conv(name, bottom, width, 3, "pad: 1") + relu(f"relu{stage}_{i}", name)
            bottom = name
        text += pool(f"pool{stage}", bottom, "kernel_size: 2 stride: 2")
        bottom = f"pool{stage}"
    return text + head(bottom, 4096, classes)


def squeezenet(version: str) -> str:
    """By the authors' prototxts, but that the stem of 1.0 reads 224 x 224 and nothing is padded."""
    stem, pools = ((96, 7), (1, 4, 8)) if version == "1.0" else ((64, 3), (1, 3, 5))
    text = conv("conv1", "data", *stem, "stride: 2") + relu("relu_conv1", "conv1")
    text += pool("pool1", "conv1")
    bottom = "pool1"
    for i, (squeeze, wide) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)), 2
    ):
        name = f"fire{i}"
        text += conv(f"{name}/squeeze1x1", bottom, squeeze, 1)
        text += relu(f"{name}/relu_squeeze1x1", f"{name}/squeeze1x1")
        for kernel in (1, 3):
            side = f"{name}/expand{kernel}x{kernel}"
            text += conv(side, f"{name}/squeeze1x1", wide, kernel, f"pad: {kernel // 2}")
            text += relu(f"{name}/relu_expand{kernel}x{kernel}", side)
        text += layer("Concat", f"{name}/concat", [f"{name}/expand1x1", f"{name}/expand3x3"])
        bottom = f"{name}/concat"
        if i in pools:
            text += pool(f"pool{i}", bottom)
            bottom = f"pool{i}"
    text += conv("conv10", bottom, 1000, 1) + relu("relu_conv10", "conv10")
    return text + pool("pool10", "conv10", "pool: AVE global_pooling: true")


def small() -> str:
    """The network of the built-in sample."""
    text, bottom = "", "data"
    rows = ((16, 5, "stride: 2 pad: 2"), (32, 3, "pad: 1"), (48, 3, "pad: 1"))
    for i, (out, kernel, more) in enumerate((*rows, (64, 3, "pad: 1"), (64, 3, "pad: 1")), 1):
        text += conv(f"conv{i}", bottom, out, kernel, f"{more} bias_term: false")
        text += normalised(f"norm{i}", f"conv{i}") + relu(f"relu{i}", f"conv{i}")
        bottom = f"conv{i}"
        if i in (1, 2, 5):
            side = 3 if i == 5 else 2
            text += pool(f"pool{i}", bottom, f"kernel_size: {side} stride: {side}")
            bottom = f"pool{i}"
    return text + dense("fc6", bottom, 112) + relu("relu6", "fc6") + dense("fc7", "fc6", 48)


def mobilefacenet() -> str:
    """By table 1 of the paper; the layers have the names that the checkpoints give the modules."""

    def unit(name: str, bottom: str, out: int, kernel: str, linear: bool = False) -> str:
        parameters = f"convolution_param {{ num_output: {out} bias_term: false {kernel} }}"
        text = layer("Convolution", f"{name}/conv", bottom, more=parameters)
        text += normalised(f"{name}/bn", f"{name}/conv")
        return text if linear else text + prelu(f"{name}/prelu", f"{name}/conv")

    text = unit("conv1", "data", 64, "kernel_size: 3 stride: 2 pad: 1")
    text += unit("dw_conv1", "conv1/conv", 64, "kernel_size: 3 pad: 1 group: 64")
    bottom, channels, number = "dw_conv1/conv", 64, 0
    for expansion, out, repeats, first in (
        (2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1),
    ):  # fmt: skip
        for i in range(repeats):
            name, wide, stride = f"blocks/{number}", channels * expansion, 1 if i else first
            rows = (
                (0, wide, "kernel_size: 1"),
                (3, wide, f"kernel_size: 3 stride: {stride} pad: 1 group: {wide}"),
                (6, out, "kernel_size: 1"),
            )
            below = bottom
            for at, width, kernel in rows:
                own = f"{name}/conv/{at}"
                parameters = f"num_output: {width} bias_term: false {kernel}"
                text += layer(
                    "Convolution", own, below, more=f"convolution_param {{ {parameters} }}"
                )
                text += normalised(f"{name}/conv/{at + 1}", own)
                text += prelu(f"{name}/conv/{at + 2}", own) if at < 6 else ""
                below = own
            if stride == 1 and channels == out:
                text += layer("Eltwise", name, [bottom, below])
                below = name
            bottom, channels, number = below, out, number + 1
    text += unit("conv2", bottom, 512, "kernel_size: 1")
    text += unit("linear7", "conv2/conv", 512, "kernel_h: 7 kernel_w: 6 group: 512", linear=True)
    return text + unit("linear1", "linear7/conv", 128, "kernel_size: 1", linear=True)


PROTOTXTS: dict[str, Callable[[], str]] = {
    "gilnet": gilnet,
    "caffenet": lambda: alexnet("pool norm"),
    "bvlc-alexnet": lambda: alexnet("norm pool"),
    "googlenet-bvlc": googlenet,
    "vggface2-resnet50": lambda: resnet(gated=False),
    "vggface2-senet50": lambda: resnet(gated=True),
}
