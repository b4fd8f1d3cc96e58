"""The report's one page."""
