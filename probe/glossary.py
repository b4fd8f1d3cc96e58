"""The words of the toolkit, each explained in a few sentences: the section "Words" of README.md here."""

from __future__ import annotations

import re
from importlib.resources import files

from features.errors import OptionError, nearest


def glossary() -> dict[str, str]:
    """The explanation of every word, in the order of the glossary."""
    text = files("probe").joinpath("README.md").read_text(encoding="utf-8")
    section = text.partition("## Words\n")[2].partition("\n## ")[0]
    entries = re.findall(r"^- \*\*(.+?)\*\*: (.+(?:\n  .+)*)", section, re.MULTILINE)
    return {word: " ".join(text.split()) for word, text in entries}


def explained(word: str) -> str:
    """What `word` means, whatever its case and with or without the `s` of several.

    Raises:
        OptionError: It is no word of the glossary.
    """
    words = glossary()
    asked = word.strip().lower().replace("-", " ").replace("_", " ")
    singular = asked.replace("copies", "copy").removesuffix("s")
    for name, text in words.items():
        if asked == name or singular == name.removesuffix("s"):
            return text
    raise OptionError(f"{word}: not in the glossary; {nearest(asked, words)}")
