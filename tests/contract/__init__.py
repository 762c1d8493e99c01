"""Tests of what the rest stands on: the helpers, and the rules of the code itself."""
