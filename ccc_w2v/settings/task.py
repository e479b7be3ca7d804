"""Settings of task `ccc_pretraining`: fairseq's audio_pretraining, the second view, and what the plan is made of."""

from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig
from omegaconf import II

from ccc_w2v.dataset.two_view import BAD_AUDIO_POLICIES
from ccc_w2v.dataset.views import AUGMENT_DEVICES

VIEWS = ("both", "original", "augmented")


@dataclass
class CccPretrainingConfig(AudioPretrainingConfig):
    """fairseq's audio_pretraining plus the second view."""

    augment: str = field(
        default="paper", metadata={"help": "augmentation of the second view: a preset's name or a YAML file's path"}
    )
    mixture: Optional[str] = field(
        default=None,
        metadata={"help": "YAML of several corpora to train on, with weights; in place of the train_subset's manifest"},
    )
    views: ChoiceEnum(VIEWS) = field(  # type: ignore[valid-type]
        default="both",
        metadata={
            "help": "views that the model gets; one alone is for criterion wav2vec: wav2vec 2.0 on the same crops in "
            "the same order under the same masks"
        },
    )
    augment_device: ChoiceEnum(AUGMENT_DEVICES) = field(  # type: ignore[valid-type]
        default="cpu",
        metadata={"help": "where the second view is computed: in the data workers, or where the model is"},
    )
    noise_manifest: Optional[str] = field(
        default=None, metadata={"help": "manifest (.tsv) of noises for transforms that mix one in"}
    )
    music_manifest: Optional[str] = field(default=None, metadata={"help": "manifest (.tsv) of music to mix in"})
    babble_manifest: Optional[str] = field(
        default=None, metadata={"help": "manifest (.tsv) of voices to mix in; default: the training manifest"}
    )
    rir_manifest: Optional[str] = field(
        default=None, metadata={"help": "manifest (.tsv) of impulse responses for recorded_reverb"}
    )
    annotations: Optional[str] = field(
        default=None,
        metadata={
            "help": "alignments (.tsv of ccc-w2v align) of some or all utterances of the training manifest, for "
            "criterion.cluster_scope=annotated"
        },
    )
    resample: bool = field(
        default=False,
        metadata={
            "help": "resample recordings of another rate and average channels as they are read, else refuse them"
        },
    )
    accept_left_out: bool = field(
        default=False, metadata={"help": "train although min_sample_size leaves out more than half of the utterances"}
    )
    crop_step: int = field(
        default=1,
        metadata={
            "help": "crops have min_sample_size plus a multiple of so many samples, or max_sample_size: 16000 gives "
            "torch.compile and cuDNN a few lengths instead of thousands, for up to so much audio of each crop"
        },
    )
    deterministic: bool = field(
        default=False,
        metadata={
            "help": "let torch, cuDNN and cuBLAS add in a fixed order, so that a run on GPUs can be repeated bit for "
            "bit; slower, see docs/several-gpus.md"
        },
    )
    on_bad_audio: ChoiceEnum(BAD_AUDIO_POLICIES) = field(  # type: ignore[valid-type]
        default="raise", metadata={"help": "what an unreadable utterance does in the middle of an epoch"}
    )
    check_headers: int = field(
        default=2000, metadata={"help": "how many files' headers are compared with the manifest at start, >= 0"}
    )
    stream_timeout: float = field(
        default=30.0,
        metadata={"help": "seconds that a request of up to 8 MiB to a server of shards may take, > 0"},
    )
    stream_attempts: int = field(
        default=5, metadata={"help": "how often such a request is made, with longer pauses, before it counts as bad"}
    )
    stream_requests: int = field(
        default=8, metadata={"help": "requests that a data worker makes at once, >= 1; a batch's utterances"}
    )
    # fairseq-fixed would keep its data workers, and with them the first epoch's crops and augmentation, for all epochs.
    reuse_dataloader: bool = field(default=False, metadata={"help": "must stay false: workers learn the epoch anew"})
    persistent_workers: bool = field(default=False, metadata={"help": "must stay false: workers learn the epoch anew"})
    tensorboard_pairs: int = field(
        default=3, metadata={"help": "pairs of views shown in TensorBoard at each validation, >= 0"}
    )
    stop_on_collapse: bool = field(
        default=False,
        metadata={"help": "end the run, exit code 3, when a validation finds it collapsed; see `ccc-w2v health`"},
    )
    health_bands: Optional[str] = field(
        default=None, metadata={"help": "YAML of what is healthy, in place of manifests/health_bands.yaml"}
    )
    tensorboard_logdir: Optional[str] = II("common.tensorboard_logdir")
    log_interval: int = II("common.log_interval")
    # fairseq 0.12.2 has no such field in its own task configuration.
    seed: int = II("common.seed")
    # What the plan line is made of.
    save_dir: str = II("checkpoint.save_dir")
    num_workers: int = II("dataset.num_workers")
    train_subset: str = II("dataset.train_subset")
    max_tokens: Optional[int] = II("dataset.max_tokens")
    batch_size: Optional[int] = II("dataset.batch_size")
    cpu: bool = II("common.cpu")
    fp16: bool = II("common.fp16")
    bf16: bool = II("common.bf16")
    update_freq: Any = II("optimization.update_freq")
    max_update: int = II("optimization.max_update")
    world_size: int = II("distributed_training.distributed_world_size")
    # The teacher of masked prediction.
    store_ema: bool = II("ema.store_ema")
    ema_fp32: bool = II("ema.ema_fp32")
