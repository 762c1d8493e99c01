"""Access to etcd: ``model`` holds the plain data, ``client`` the connection to the cluster.

Nothing is imported here: ``model`` and ``endpoint`` are light enough for a hook, ``client`` loads etcd3gw.
"""
