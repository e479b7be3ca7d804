#!/usr/bin/env bash
# One process on one GPU, or on the CPU where there is none.
#
#   recipes/launch/one_gpu.sh --config-dir recipes/prompts/config --config-name pretrain common.user_dir=... [more]
#
# Everything goes to fairseq-hydra-train. Stopped, the same command continues. CUDA_VISIBLE_DEVICES=3 picks the GPU.
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    echo "error: expected the arguments of fairseq-hydra-train" >&2
    exit 2
fi
exec fairseq-hydra-train "$@" distributed_training.distributed_world_size=1
