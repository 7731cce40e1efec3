"""The radio: symbols and side information to samples and back, on NumPy and SciPy alone."""
