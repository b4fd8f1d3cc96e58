"""The feature file: its format, its making, its writing."""
