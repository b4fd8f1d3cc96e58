"""A person and the library: commands, progress, tables, the error boundary. Computes nothing."""
