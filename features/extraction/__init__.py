"""Images to features: passes over the images, workers, pooling, and features made elsewhere."""
