"""`probe backbones` and `probe layers`: what there is to extract."""

from __future__ import annotations

from cli import options, show

_LISTED = 4


def backbones(json: options.Json = False) -> None:
    """List the backbones that ship: domain, layers, input, parameters, licence, weights.

    torchvision:NAME, timm:NAME, hf:NAME, onnx:FILE and card files (./mine.toml) work too.

    Example: probe backbones
    """
    from features.backbone import architecture_of
    from features.cards.card import shipped
    from features.weights import here

    rows = []
    for card in shipped().values():
        architecture = architecture_of(card)
        rows.append(
            {
                "backbone": card.name,
                "domain": card.domain,
                "layers": len(architecture.layers),
                "input": f"{architecture.input.size[0]}x{architecture.input.size[1]}",
                "parameters": architecture.parameters,
                "licence": card.licence or "",
                "weights": not architecture.parameters or here(card),
            }
        )
    if json:
        show.put_json(rows)
        return
    show.put_table(
        ["backbone", "domain", "layers", "input", "parameters", "weights", "licence"],
        [
            [
                str(row["backbone"]),
                str(row["domain"]),
                str(row["layers"]),
                str(row["input"]),
                f"{row['parameters']:,}",
                "here" if row["weights"] else "not here",
                str(row["licence"]) or "-",
            ]
            for row in rows
        ],
    )


def layers(
    backbone: options.Network,
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """List a backbone's layers in depth order: name, module, output, shape, size, depth.

    Those that extract reads where no --layer is given are marked; what is no layer, since its rows are
    not the images' or nobody can tell what they are, is named with the reason.

    Example: probe layers vggface
    """
    from features.backbone import describe, no_layers, offered

    described = describe(backbone)
    for why, names in no_layers(described).items():
        shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        show.say(f"no layer: {shown} ({len(names)}): {why}")
    rows = [
        {
            "name": layer.name,
            "module": layer.module,
            "output": layer.output.words,
            "shape": layer.shape,
            "size": layer.size,
            "depth": layer.depth,
            "default": layer.name in described.default,
        }
        for layer in offered(described).values()
    ]
    if json:
        show.put_json(rows)
        return
    show.put_table(
        ["layer", "module", "output", "shape", "size", "depth", "default"],
        [
            [
                layer.name,
                layer.module,
                layer.output.words,
                "x".join(map(str, layer.shape)),
                f"{layer.size:,}",
                f"{layer.depth:.2f}",
                "yes" if layer.name in described.default else "",
            ]
            for layer in offered(described).values()
        ],
    )
