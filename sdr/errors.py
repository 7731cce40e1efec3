"""The one exception that users of the radio can cause."""


class SdrError(ValueError):
    """A wrong parameter, recording or packet: one line that says what was wrong and what to do."""
