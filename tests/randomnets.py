"""Small Caffe networks drawn at random, as prototxts old and new, for comparison with OpenCV."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import ceil

Shape = tuple[int, ...]
NEW = {
    "Convolution": 5,
    "Pooling": 4,
    "LRN": 2,
    "ReLU": 4,
    "PReLU": 2,
    "BatchNorm": 3,
    "Scale": 2,
    "Eltwise": 3,
    "Concat": 3,
    "Split": 1,
    "Dropout": 1,
    "Power": 1,
    "Sigmoid": 1,
    "TanH": 1,
    "AbsVal": 1,
    "ELU": 1,
    "Softmax": 1,
    "Flatten": 1,
    "InnerProduct": 1,
    "Slice": 1,
}
OLD = ("Convolution", "Pooling", "LRN", "ReLU", "Eltwise", "Concat", "Split", "Dropout", "Power",
       "Sigmoid", "TanH", "Softmax", "Flatten", "InnerProduct", "Slice")  # fmt: skip
V1_NAMES = {"InnerProduct": "INNER_PRODUCT"}
IN_PLACE = ("ReLU", "PReLU", "BatchNorm", "Scale", "Dropout", "Power", "Sigmoid", "TanH", "ELU")


@dataclass
class Draft:
    """A network in the making."""

    rng: random.Random
    old: bool
    shapes: dict[str, Shape] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    text: str = ""
    count: int = 0

    def add(self, kind: str, bottoms: list[str], tops: list[Shape], parameters: str = "") -> None:
        """A layer; one that may work in place now and then does."""
        self.count += 1
        name = f"{self.rng.choice(['', 'a/', 'b.'])}{kind.lower()}{self.count}"
        place = kind in IN_PLACE and bottoms[0] in self.unread and self.rng.random() < 0.6
        names = bottoms if place else [f"{name}{'_' * i}" for i in range(len(tops))]
        reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        gives = " ".join(f'top: "{top}"' for top in names)
        old_kind = V1_NAMES.get(kind, kind.upper())
        head = f"layers {{ type: {old_kind}" if self.old else f'layer {{ type: "{kind}"'
        self.text += f'{head} name: "{name}" {reads} {gives} {parameters} }}\n'
        self.unread -= set(bottoms)
        self.shapes.update(zip(names, tops, strict=True))
        if len(names) == 1:
            self.unread.add(names[0])


def drawn(seed: int) -> tuple[str, bool]:
    """A prototxt, and whether it is of the old kind."""
    rng = random.Random(seed)
    draft = Draft(rng, old=rng.random() < 0.25)
    sides = (rng.randint(9, 21), rng.randint(9, 21))
    dims = f"dim: 1 dim: 3 dim: {sides[0]} dim: {sides[1]}"
    heads = [
        f'input: "data" input_shape {{ {dims} }}',
        f'input: "data" {dims.replace("dim", "input_dim")}',
    ]
    if not draft.old:
        shape = f"input_param {{ shape {{ {dims} }} }}"
        heads.append(f'layer {{ name: "data" type: "Input" top: "data" {shape} }}')
    draft.text = rng.choice(heads) + "\n"
    draft.shapes["data"] = (3, *sides)
    weights = {kind: n for kind, n in NEW.items() if not draft.old or kind in OLD}
    for _ in range(rng.randint(5, 14)):
        (kind,) = rng.choices(list(weights), list(weights.values()))
        _grow(draft, kind)
    return draft.text, draft.old


def _grow(draft: Draft, kind: str) -> None:
    """Add a layer of this kind to one of the last blobs, if one fits."""
    rng = draft.rng
    bottom = rng.choice(list(draft.shapes)[-4:])
    shape = draft.shapes[bottom]
    if len(shape) != 3 and kind in ("Convolution", "Pooling", "LRN", "Slice"):
        return
    if kind == "Convolution":
        _convolution(draft, bottom)
    elif kind == "Pooling":
        _pooling(draft, bottom)
    elif kind == "LRN":
        region = rng.choice(["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
        values = f"alpha: {rng.choice([0.0001, 0.2])} beta: {rng.choice([0.75, 0.5])}"
        more = f"local_size: {rng.choice([3, 5])} {values} norm_region: {region}"
        draft.add(kind, [bottom], [shape], f"lrn_param {{ {more} }}")
    elif kind == "ReLU":
        slope = rng.choice(["", "relu_param { negative_slope: 0.2 }"])
        draft.add(kind, [bottom], [shape], slope)
    elif kind == "PReLU":
        shared = rng.choice(["", "prelu_param { channel_shared: true }"])
        draft.add(kind, [bottom], [shape], shared)
    elif kind == "BatchNorm":
        draft.add(kind, [bottom], [shape], rng.choice(["", "batch_norm_param { eps: 0.01 }"]))
        if rng.random() < 0.7:
            draft.add("Scale", [list(draft.shapes)[-1]], [draft.shapes[list(draft.shapes)[-1]]],
                      "scale_param { bias_term: true }")  # fmt: skip
    elif kind == "Scale":
        draft.add(kind, [bottom], [shape], rng.choice(["", "scale_param { bias_term: true }"]))
    elif kind == "Eltwise":
        _eltwise(draft, bottom)
    elif kind == "Concat":
        _concat(draft, bottom)
    elif kind == "Split":
        draft.add(kind, [bottom], [shape, shape])
        del draft.shapes[list(draft.shapes)[-1]]  # OpenCV has the first top of a Split alone
    elif kind == "Power":
        draft.add(kind, [bottom], [shape], "power_param { scale: -0.5 shift: 0.3 }")
    elif kind == "ELU":
        draft.add(kind, [bottom], [shape], "elu_param { alpha: 0.7 }")
    elif kind == "Softmax":
        axis = rng.choice([1, 1, len(shape)])
        draft.add(kind, [bottom], [shape], "" if axis == 1 else f"softmax_param {{ axis: {axis} }}")
    elif kind == "Flatten":
        size = 1
        for side in shape:
            size *= side
        draft.add(kind, [bottom], [(size,)])
    elif kind == "InnerProduct":
        out = rng.randint(1, 9)
        bias = rng.choice(["", "bias_term: false"])
        draft.add(kind, [bottom], [(out,)], f"inner_product_param {{ num_output: {out} {bias} }}")
    elif kind == "Slice":
        if shape[0] > 1:
            at = rng.randrange(1, shape[0])
            parts = [(at, *shape[1:]), (shape[0] - at, *shape[1:])]
            draft.add(kind, [bottom], parts, f"slice_param {{ slice_point: {at} }}")
    else:
        draft.add(kind, [bottom], [shape])


def _convolution(draft: Draft, bottom: str) -> None:
    rng, (channels, *sides) = draft.rng, draft.shapes[bottom]
    group = rng.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    out = group * rng.randint(1, 4)
    # OpenCV gives wrong numbers for a dilated depthwise convolution; plain loops agree with ours.
    dilation = 1 if draft.old or group == channels else rng.choice([1, 1, 2])
    kernel, pad = [rng.randint(1, 4) for _ in "hw"], [rng.randint(0, 3) for _ in "hw"]
    stride = [rng.randint(1, 2) for _ in "hw"]
    if rng.random() < 0.5:
        kernel, pad, stride = [kernel[0]] * 2, [pad[0]] * 2, [stride[0]] * 2
    found = [
        (side + 2 * p - dilation * (k - 1) - 1) // s + 1
        for side, k, p, s in zip(sides, kernel, pad, stride, strict=True)
    ]
    if min(found) < 1:
        return
    parts = [f"num_output: {out} group: {group}"]
    parts += [f"dilation: {dilation}"] if dilation > 1 else []
    for word, field_, sides_ in (
        ("kernel", "kernel_size", kernel),
        ("pad", "pad", pad),
        ("stride", "stride", stride),
    ):
        same = sides_[0] == sides_[1] and not draft.old
        parts.append(
            f"{field_}: {sides_[0]}" if same else f"{word}_h: {sides_[0]} {word}_w: {sides_[1]}"
        )
    parts += [rng.choice(["", "bias_term: false"])]
    draft.add(
        "Convolution", [bottom], [(out, *found)], f"convolution_param {{ {' '.join(parts)} }}"
    )


def _pooling(draft: Draft, bottom: str) -> None:
    rng, (channels, *sides) = draft.rng, draft.shapes[bottom]
    method = rng.choice(["MAX", "AVE"])
    if rng.random() < 0.15:
        draft.add(
            "Pooling",
            [bottom],
            [(channels, 1, 1)],
            f"pooling_param {{ pool: {method} global_pooling: true }}",
        )
        return
    kernel = [rng.randint(2, 4) for _ in "hw"]
    stride = [rng.randint(1, k) for k in kernel]
    pad = [rng.randrange(k) for k in kernel]
    if rng.random() < 0.5:
        kernel, stride, pad = [kernel[0]] * 2, [stride[0]] * 2, [0, 0]
    if any(side + 2 * p < k for side, k, p in zip(sides, kernel, pad, strict=True)):
        return
    found = []
    for side, k, s, p in zip(sides, kernel, stride, pad, strict=True):
        n = ceil((side + 2 * p - k) / s) + 1
        found.append(n - (any(pad) and (n - 1) * s >= side + p))
    words = zip(("kernel", "stride", "pad"), (kernel, stride, pad), strict=True)
    text = " ".join(f"{word}_h: {a} {word}_w: {b}" for word, (a, b) in words)
    draft.add(
        "Pooling", [bottom], [(channels, *found)], f"pooling_param {{ pool: {method} {text} }}"
    )


def _eltwise(draft: Draft, bottom: str) -> None:
    rng = draft.rng
    alike = [name for name, shape in draft.shapes.items() if shape == draft.shapes[bottom]]
    bottoms = [bottom, *rng.sample(alike, min(len(alike), rng.randint(1, 2)))]
    operation = rng.choice(["SUM", "SUM", "PROD", "MAX"])
    coefficients = ""
    if operation == "SUM" and rng.random() < 0.5:
        coefficients = " ".join(f"coeff: {rng.choice([0.5, -1.5, 1, 2])}" for _ in bottoms)
    parameters = f"eltwise_param {{ operation: {operation} {coefficients} }}"
    draft.add("Eltwise", bottoms, [draft.shapes[bottom]], parameters)


def _concat(draft: Draft, bottom: str) -> None:
    rng, shape = draft.rng, draft.shapes[bottom]
    axis = 0 if draft.old else rng.choice([0, 0, *range(len(shape))])
    fits = [
        name
        for name, other in draft.shapes.items()
        if len(other) == len(shape)
        and all(i == axis or a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)))
    ]
    bottoms = [bottom, *rng.sample(fits, min(len(fits), rng.randint(1, 2)))]
    side = sum(draft.shapes[name][axis] for name in bottoms)
    # OpenCV knows concat_dim, the older word, for channels alone.
    word = "concat_dim" if not axis and rng.random() < 0.5 else "axis"
    old = draft.old and word == "axis"
    parameters = "" if old else f"concat_param {{ {word}: {axis + 1} }}"
    draft.add("Concat", bottoms, [(*shape[:axis], side, *shape[axis + 1 :])], parameters)
