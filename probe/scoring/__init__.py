"""What is told of layers without fitting: transfer scores, CKA, distances between domains."""
