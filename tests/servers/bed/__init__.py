"""Hosts that share nothing but a kernel: addresses, files, accounts, processes and services of their own.

Each host is a process 1 in namespaces that have no name (``enter.sh``, ``init.py``). The kernel takes them down with it, and it
dies with the test that started it: whatever happens to the test, no interface, mount or process stays behind.
"""
