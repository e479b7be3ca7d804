#!/usr/bin/env python3
"""The same as `ccc-w2v pack`, from a checkout."""

import sys

from ccc_w2v.cli.main import launcher

main = launcher("pack")

if __name__ == "__main__":
    sys.exit(main())
