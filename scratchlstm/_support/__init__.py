"""Used throughout the package; nothing here is meant to be imported from outside."""
