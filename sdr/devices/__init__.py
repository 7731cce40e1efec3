"""Radios and what stands in for them, behind one interface."""
