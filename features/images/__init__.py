"""Pixels: decoding, preprocessing, views for test, thumbnails."""
