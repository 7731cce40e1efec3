"""Composing models and radio: image to image, with and without GNU Radio."""
