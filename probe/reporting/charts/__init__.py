"""The charts of the report, as SVG for the page and as files."""
