"""Settings of model `ccc_wav2vec2`: fairseq's wav2vec 2.0, and how the two-view pass is computed."""

from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config

from ccc_w2v.errors import InputError

AUTOCAST = ("none", "bf16", "auto")


@dataclass
class CccWav2Vec2Config(Wav2Vec2Config):
    """fairseq's wav2vec 2.0 configuration; what is new in ccc-wav2vec 2.0 is configured in the criterion."""

    compile_layers: bool = field(
        default=False,
        metadata={"help": "run the Transformer's layers through torch.compile; the first updates take minutes longer"},
    )
    autocast: ChoiceEnum(AUTOCAST) = field(  # type: ignore[valid-type]
        default="none",
        metadata={
            "help": "multiply matrices of the two-view pass in bfloat16, weights and losses in float32; auto: on CPUs "
            "with AMX"
        },
    )
    checkpoint_features: bool = field(
        default=False,
        metadata={
            "help": "keep no activations of the feature encoder and compute them again for backward: the same numbers "
            "in less memory, for one more forward pass of it"
        },
    )


# Settings of fairseq's model that this objective does not cover, with what they must be.
_REQUIRED = {
    "quantize_targets": True,
    "quantize_input": False,
    "target_glu": False,
    "negatives_from_everywhere": False,
    "cross_sample_negatives": 0,
    "codebook_negatives": 0,
    "crop_seq_to_multiple": 1,
    "mask_selection": "static",
    "no_mask_overlap": False,
    "mask_dropout": 0,
    "require_same_masks": True,
    "mask_channel_before": False,
    "mask_channel_selection": "static",
    "no_mask_channel_overlap": False,
}


def refuse_unsupported(cfg: CccWav2Vec2Config) -> None:
    """Raise InputError for a setting that two views cannot share or that no seed could replay."""
    for name, required in _REQUIRED.items():
        value = getattr(cfg, name, required)
        value = getattr(value, "value", value)
        if value != required:
            raise InputError(f"model.{name}={value}: ccc_wav2vec2 needs {name}={required}; wav2vec2 takes others")
    if cfg.mask_prob <= 0 or cfg.num_negatives <= 0:
        raise InputError("model.mask_prob and model.num_negatives must be positive: the loss is over masked frames")
