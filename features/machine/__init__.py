"""What the toolkit asks of the machine: files and locks, its own folder, devices, processes."""
