"""`probe layers`: the layers of a backbone."""

from __future__ import annotations

from cli import options, show

_LISTED = 4
"""How many of the modules that cannot be layers are named for each reason."""


def layers(
    backbone: options.Network,
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """List a backbone's layers in depth order: name, module, output, shape, size, depth.

    The layers that `probe extract` reads without --layer are marked. Modules that cannot be layers are
    listed with the reason.

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
