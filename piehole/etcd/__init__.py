"""etcd's JSON gateway with deadlines: every call ends in time, and a write whose outcome is unknown says so.

``client`` asks the cluster, ``rotation`` tries its endpoints in turn, ``endpoint_client`` speaks with one of them, and
``json_gateway`` packs requests and reads answers. Nothing is imported here: ``model`` and ``endpoint`` are light enough for a
hook, ``client`` loads etcd3gw.
"""
