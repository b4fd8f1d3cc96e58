"""The report of a study: what is said, as a page, charts, tables and data."""
