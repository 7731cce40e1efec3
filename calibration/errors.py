"""The one exception that `calibration` raises on its own."""


class CampaignError(ValueError):
    """A campaign that cannot begin or go on, in one line: what is wrong and what to do. What was finished is kept."""
