"""`probe backbones`: the backbones that ship."""

from __future__ import annotations

from typing import Any

from cli import options, show


def backbones(json: options.Json = False) -> None:
    """List the backbones that ship: domain, layers, input, parameters, licence, weights.

    torchvision:NAME, timm:NAME, hf:NAME, onnx:FILE and card files (./mine.toml) work too. Three networks
    are called AlexNet: `probe run paper` takes caffenet for the "AlexNet-like" network of the paper, which
    does not say which it was; bvlc-alexnet is Caffe's other one, alexnet torchvision's.

    Example: probe backbones
    """
    from features.backbone import architecture_of
    from features.cards.reading import shipped
    from features.weights import here

    rows: list[dict[str, Any]] = []
    for card in shipped().values():
        architecture = architecture_of(card)
        rows.append(
            {
                "backbone": card.name,
                "domain": card.domain,
                "layers": len(architecture.layers),
                "input": "x".join(map(str, architecture.input.size))
                + (
                    ""
                    if architecture.input.channels == 3
                    else f" {architecture.input.channel_order}"
                ),
                "parameters": architecture.parameters,
                "licence": card.licence or "",
                "weights": not architecture.parameters or here(card),
            }
        )
    if json:
        show.put_json(rows)
        return
    show.put_table(
        ["backbone", "domain", "layers", "input", "params", "weights", "licence"],
        [
            [
                str(row["backbone"]),
                str(row["domain"]),
                str(row["layers"]),
                str(row["input"]),
                f"{row['parameters'] / 1e6:.1f} M",
                "here" if row["weights"] else "-",
                str(row["licence"]) or "-",
            ]
            for row in rows
        ],
        cut_last=True,
    )
