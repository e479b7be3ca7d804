"""What a long pre-training asks of everything but the network: disk, cores, memory of the loaders, checkpoints, money.

Nothing is measured here: rates go in, products come out. The defaults are the published rate of wav2vec 2.0 LARGE on
V100 and rates of this package from docs/benchmarks.md.
"""

from __future__ import annotations

from dataclasses import dataclass

# wav2vec 2.0 (arXiv 2006.11477, section 4.2), LARGE on Librispeech: 250,000 updates of 2.7 h in 2.3 days on 128 V100.
PUBLISHED_RATE = 250_000 * 2.7 / (2.3 * 24 * 128)
TWO_VIEWS = 1.97  # steps of one view in a step of two: `ccc-w2v benchmark step`
CORE_RATE = 1911.0  # times real time, FLAC to a batch of two views: `ccc-w2v benchmark augment`
BYTES_A_PARAMETER = 12  # of a checkpoint: the weight and Adam's two moments in fp32


@dataclass(frozen=True)
class Workload:
    """A pre-training and the rates of what it runs on.

    ``gpu_rate``: hours of audio that a GPU processes in an hour; ``core_rate``: likewise of a CPU core that decodes and
    augments; ``kb_per_second``: of audio on disk; ``read_seconds``: an utterance as it is read, of which at most
    ``crop_seconds`` are used; ``shuffled``: utterances in each worker's shuffle buffer, as they are on disk;
    ``storage_gb_per_second``: what one process writes; ``price``: of a GPU for an hour.
    """

    hours: float = 60_000
    gpus: int = 64
    gpus_per_node: int = 8
    updates: int = 600_000
    update_hours: float = 2.7
    gpu_rate: float = PUBLISHED_RATE / TWO_VIEWS
    core_rate: float = CORE_RATE
    kb_per_second: float = 18.0
    read_seconds: float = 15.0
    crop_seconds: float = 15.0
    workers_per_gpu: int = 4
    shuffled: int = 2000
    parameters: float = 317e6
    save_updates: int = 5000
    storage_gb_per_second: float = 1.0
    price: float = 0.0


@dataclass(frozen=True)
class DataPlan:
    """What a workload comes to; "node" is of each machine."""

    epochs: float
    step_seconds: float
    days: float
    gpu_hours: float
    cost: float
    corpus_tb: float
    read_mb_per_second: float
    node_mb_per_second: float
    node_cores: float
    cores_per_gpu: float
    node_shuffle_gb: float
    shuffle_seconds: float
    checkpoint_gb: float
    checkpoints: int
    checkpoints_tb: float
    save_seconds: float
    saving_share: float


def data_plan(work: Workload) -> DataPlan:
    """Multiply a workload out.

    Reading and cores count whole utterances, of which a crop is used. A save is one process's, while all others wait.
    """
    processed = work.updates * work.update_hours
    wall_hours = processed / (work.gpus * work.gpu_rate)
    step_seconds = 3600 * wall_hours / work.updates
    read = work.gpu_rate * max(1.0, work.read_seconds / work.crop_seconds)  # seconds of audio a second, of each GPU
    shuffled_gb = work.workers_per_gpu * work.shuffled * work.read_seconds * work.kb_per_second / 1e6
    checkpoint_gb = work.parameters * BYTES_A_PARAMETER / 1e9
    save_seconds = checkpoint_gb / work.storage_gb_per_second
    checkpoints = work.updates // work.save_updates
    return DataPlan(
        epochs=processed / work.hours,
        step_seconds=step_seconds,
        days=wall_hours / 24,
        gpu_hours=wall_hours * work.gpus,
        cost=wall_hours * work.gpus * work.price,
        corpus_tb=work.hours * 3600 * work.kb_per_second / 1e9,
        read_mb_per_second=work.gpus * read * work.kb_per_second / 1e3,
        node_mb_per_second=work.gpus_per_node * read * work.kb_per_second / 1e3,
        node_cores=work.gpus_per_node * read / work.core_rate,
        cores_per_gpu=read / work.core_rate,
        node_shuffle_gb=work.gpus_per_node * shuffled_gb,
        shuffle_seconds=work.workers_per_gpu * work.shuffled * work.read_seconds / read,
        checkpoint_gb=checkpoint_gb,
        checkpoints=checkpoints,
        checkpoints_tb=checkpoints * checkpoint_gb / 1e3,
        save_seconds=save_seconds,
        saving_share=save_seconds / (work.save_updates * step_seconds + save_seconds),
    )


def data_table(work: Workload, plan: DataPlan) -> str:
    """Return the plan as lines of a name and a value."""
    rows = {
        "epochs of the corpus": f"{plan.epochs:.1f} ({work.updates * work.update_hours:,.0f} h processed)",
        "time": f"{plan.days:.1f} days, {plan.step_seconds:.2f} s per update",
        "GPU-hours": f"{plan.gpu_hours:,.0f}" + (f", costs {plan.cost:,.0f}" if work.price else ""),
        "corpus on disk": f"{plan.corpus_tb:.2f} TB",
        "reading": f"{plan.read_mb_per_second:.0f} MB/s together, {plan.node_mb_per_second:.1f} MB/s for each machine",
        "decoding, augmentation": f"{plan.cores_per_gpu:.3f} cores per GPU, {plan.node_cores:.2f} for each machine",
        "shuffle buffers": f"{plan.node_shuffle_gb:.1f} GB for each machine, filled in {plan.shuffle_seconds:.0f} s",
        "checkpoints": f"{plan.checkpoints} of {plan.checkpoint_gb:.1f} GB, {plan.checkpoints_tb:.2f} TB written",
        "a save": f"{plan.save_seconds:.1f} s, {plan.saving_share:.2%} of the time",
    }
    return "\n".join(f"{name:<24}{value}" for name, value in rows.items())
