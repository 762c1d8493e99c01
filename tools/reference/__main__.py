import sys

from tools.reference import write

sys.exit(write() or 0)
