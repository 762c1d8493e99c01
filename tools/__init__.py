"""The project's own build tools; none is installed."""
