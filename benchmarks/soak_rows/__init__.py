"""Parts of the soak benchmark: processes that are watched, and the account of their pictures."""
