"""This version beside the one before: what they have written, and running together."""
