"""The folder of a study: its images, their copies, its settings, and the features in it."""
