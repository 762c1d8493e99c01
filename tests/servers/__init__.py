"""Three real servers and a laptop: hosts of their own in network namespaces, set up by deploy/'s own scripts."""
