"""What is built and installed: the wheel, the sdist, the Debian package, and what they need."""
