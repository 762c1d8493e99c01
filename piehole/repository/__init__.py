"""One bare repository on this disk. Nothing here knows etcd."""
