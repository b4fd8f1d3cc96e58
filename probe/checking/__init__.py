"""What `probe data check` looks for: counts, unreadable files, copies and leaks."""
