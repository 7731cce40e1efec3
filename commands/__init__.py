"""The commands of `lrisc`, one module each: options in, calls into the rooms below, lines and JSON out.

Whatever is heavy (torch, SciPy) is imported by the command that needs it, so that --help answers at once.
"""
