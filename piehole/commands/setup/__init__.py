"""`piehole setup`: makes this server a site. Steps are data (`plan`), and what they do to the machine is in `machine` alone."""
