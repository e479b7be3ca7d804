#!/usr/bin/env python3
"""The same as `ccc-w2v segment`, from a checkout."""

import sys

from ccc_w2v.cli.main import launcher

main = launcher("segment")

if __name__ == "__main__":
    sys.exit(main())
