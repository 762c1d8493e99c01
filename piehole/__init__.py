"""piehole: several Git repositories at different sites act as one.

The references are agreed in etcd; the objects flow afterwards. This package holds the domain and the
command line; ``controller`` holds the daemon's machinery and ``hooks`` what git runs. Imports point one
way: ``hooks -> piehole <- controller``.
"""

__version__ = "0.2.0"
