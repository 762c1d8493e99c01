"""Faults that were met in the field or found from outside, each reproduced as it was met."""
