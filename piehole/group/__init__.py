"""What etcd holds of a group, and whether this site may act on it."""
