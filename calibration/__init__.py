"""Measuring: what this machine can do, and later what a station and a link really do."""
