#!/usr/bin/env python3
"""The same as `ccc-w2v plan-data`, from a checkout."""

import sys

from ccc_w2v.cli.main import launcher

main = launcher("plan_data")

if __name__ == "__main__":
    sys.exit(main())
