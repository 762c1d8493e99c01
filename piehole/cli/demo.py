"""Try piehole on this machine: start an etcd, three sites and users' clones, push for real, and print what happened.

The demo plays the situations that piehole is for, checks that each ends as expected, and leaves nothing behind. With --serve it keeps
the sites up and prints the URLs to clone from.
"""

from __future__ import annotations

import argparse

EXAMPLES = (
    ("piehole demo", "play all situations with the history of the repository around the current directory"),
    ("piehole demo --repo ~/src/tools --serve", "keep three sites of another one up until Ctrl-C"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repo", metavar="PATH", help="push this repository's history (default: the one around the current directory)"
    )
    parser.add_argument("--serve", action="store_true", help="keep the sites up until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    from piehole.demo.run import play

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        play(args.repo, say, serve=args.serve)
    except KeyboardInterrupt:
        print("\nEnded; nothing is left running.", flush=True)
        return 0 if args.serve else 130
    return 0
