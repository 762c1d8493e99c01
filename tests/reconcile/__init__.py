"""``piehole reconcile --once``: what a site becomes, whatever it was before."""
