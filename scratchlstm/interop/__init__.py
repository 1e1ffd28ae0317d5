"""To other frameworks."""
