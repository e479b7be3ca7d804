"""ccc-wav2vec 2.0 for fairseq: registers task `ccc_pretraining`, model `ccc_wav2vec2` and criterions `ccc` and `capi`.

Registration needs fairseq, which takes seconds to import, so it happens by itself only where fairseq is loaded already:
under `common.user_dir`. Elsewhere call `register()` once before loading a checkpoint of ours through fairseq.
"""

import sys

__version__ = "0.1.0"


def register() -> None:
    """Register task, model and criterion with fairseq; harmless when called again."""
    from ccc_w2v import capi, compat, criterion, model, task  # noqa: F401
    from ccc_w2v.checkpoint.inside_fairseq import read_inert_settings
    from ccc_w2v.freed_memory import keep_freed_memory
    from ccc_w2v.training.loop import extend_training_loop

    compat.prepare()
    keep_freed_memory()
    read_inert_settings()
    extend_training_loop()


if sys.modules.get("fairseq"):
    register()
