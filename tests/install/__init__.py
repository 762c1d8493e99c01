"""``piehole install``: what it refuses, what it adopts, and that it may be run again."""
