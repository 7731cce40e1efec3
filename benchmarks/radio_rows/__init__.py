"""The rows of the radio benchmark: each module measures and plots the properties that share one set of trials."""
