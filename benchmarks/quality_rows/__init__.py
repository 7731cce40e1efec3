"""The rows of the quality benchmark: what is sent for each property that is asked, and what comes out of it."""
