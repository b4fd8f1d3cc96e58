"""A study at ease in Python and in a notebook: its results as a table, its curves as figures."""
