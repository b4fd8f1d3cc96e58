"""The machine: files and locks, the cache folder, devices, processes."""
