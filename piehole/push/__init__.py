"""May this push move these refs? Decides, and swaps them in etcd."""
