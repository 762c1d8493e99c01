"""``piehole demo``: an etcd, three sites and users' clones on this machine, real pushes, and what happened."""
