"""`python -m ccc_w2v.training.command`: fairseq-hydra-train that hears Ctrl-C while torch and fairseq are imported.

What `ccc-w2v pretrain` and `finetune` start. fairseq's own script imports for seconds before anything of this project
is loaded, and one of its modules takes a Ctrl-C for a missing dependency.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

INTERRUPTED = "\ninterrupted before the training began"


def _interrupted(number: int, frame: Any) -> NoReturn:
    print(INTERRUPTED, file=sys.stderr, flush=True)
    os._exit(128 + number)  # nothing was begun, and an exception may be swallowed


def main() -> None:
    """Train with the words of the command line, as fairseq-hydra-train does."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:  # a job in the background ignores Ctrl-C
        signal.signal(signal.SIGINT, _interrupted)
    from fairseq_cli.hydra_train import cli_main

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli_main()
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
