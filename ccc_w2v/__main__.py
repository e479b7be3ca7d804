"""`python -m ccc_w2v` prints the folder to give to fairseq as common.user_dir; with words after it, it is `ccc-w2v`."""

import sys
from pathlib import Path

if len(sys.argv) == 1:
    print(Path(__file__).resolve().parent)
else:
    from ccc_w2v.cli.main import main

    sys.exit(main())
