"""The command line: one file per verb, and what the verbs share.

Results go to stdout, progress and messages to stderr. Exit 0: all fine; 1: some inputs failed, the
others were still answered; 2: the call itself is wrong.
"""

from lushan.cli.app import main

__all__ = ["main"]
