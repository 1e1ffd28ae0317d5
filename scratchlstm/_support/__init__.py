"""Internal helpers used throughout the package; do not import them from outside."""
