"""What this project adds to fairseq's training loop, whichever fairseq it is: put in once, as the plugin registers."""

from __future__ import annotations

from ccc_w2v.training.health.stop import stop_when_collapsed
from ccc_w2v.training.ranks import leave_process_group
from ccc_w2v.training.resume import keep_checkpoints_whole, keep_place_in_epoch, stop_when_told


def extend_training_loop() -> None:
    """Keep checkpoints whole, resume within an epoch, stop on signals or collapse, leave process groups.

    Harmless when repeated.
    """
    keep_checkpoints_whole()
    keep_place_in_epoch()
    stop_when_told()
    stop_when_collapsed()
    leave_process_group()
