"""What this project adds to fairseq's training loop, whichever fairseq it is: put in once, as the plugin registers."""

from __future__ import annotations

from ccc_w2v.training.finetuning_labels import check_finetuning_labels
from ccc_w2v.training.health.stop import stop_when_collapsed
from ccc_w2v.training.memory import end_out_of_memory
from ccc_w2v.training.network_checks import check_networks
from ccc_w2v.training.ranks import leave_process_group
from ccc_w2v.training.reading_ahead import end_reading_ahead
from ccc_w2v.training.resume import (
    end_where_finished,
    keep_checkpoints_whole,
    keep_place_in_epoch,
    keep_schedule,
    stop_when_told,
)
from ccc_w2v.training.run_record import describe_runs
from ccc_w2v.training.teacher import hand_on_what_trains_apart, schedule_teacher


def extend_training_loop() -> None:
    """Keep checkpoints whole, resume within an epoch, stop on signals or collapse, describe each start.

    Labels, masks and memory are checked first. A batch that a GPU's memory cannot hold ends the run; a teacher's
    momentum follows its schedule, and what trains beside the model goes on where another run's weights do; processes
    leave their group, and stop reading ahead, at the end. Harmless when repeated.
    """
    keep_checkpoints_whole()
    keep_place_in_epoch()
    keep_schedule()
    end_where_finished()
    stop_when_told()
    stop_when_collapsed()
    end_out_of_memory()
    leave_process_group()
    end_reading_ahead()
    check_finetuning_labels()
    check_networks()
    schedule_teacher()
    hand_on_what_trains_apart()
    describe_runs()
