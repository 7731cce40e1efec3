"""The one exception that `models` raises for mistakes of its user."""


class ModelError(ValueError):
    """A picture, mask, weight folder or number that cannot be used.

    The message is a single line that names what was wrong and what to do; the command line prints it and exits with 2.
    """
