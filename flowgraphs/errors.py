"""The one exception that `flowgraphs` raises on its own."""


class LinkError(RuntimeError):
    """Nothing usable came through the air: no fault of the user's input, but no picture either."""
