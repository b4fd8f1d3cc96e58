"""One network on one training set: recipes, epochs, checkpoints, images, the head."""
