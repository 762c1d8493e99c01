#!/usr/lib/piehole/bin/python3 -I
import sys

from piehole.cli import main

sys.exit(main())
