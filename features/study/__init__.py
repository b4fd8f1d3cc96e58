"""The folder of a study: what it remembers of its images, their copies, and what it holds."""
