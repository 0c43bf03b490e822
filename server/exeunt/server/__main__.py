"""`python -m exeunt.server` is `exeunt serve`."""

import sys

from exeunt.server.cli import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
