#!/usr/bin/env bash
# One machine, N processes under torchrun: on its GPUs with NCCL, or on its CPU cores with gloo where it has none.
#
#   recipes/launch/one_node.sh N --config-dir recipes/prompts/config --config-name pretrain common.user_dir=... [more]
#
# Everything after N goes to fairseq-hydra-train. Stopped, the same command continues.
set -euo pipefail
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    echo "error: expected a number of processes, then the arguments of fairseq-hydra-train" >&2
    exit 2
fi
processes=$1
shift

overrides="distributed_training.distributed_world_size=$processes"
if [ "$(python -c 'import torch; print(torch.cuda.device_count())')" = 0 ]; then
    # fairseq reads torchrun's variables by itself, but only to pick a GPU.
    overrides+=' distributed_training.distributed_rank=$RANK distributed_training.distributed_init_method=env://'
    overrides+=' distributed_training.distributed_no_spawn=true distributed_training.distributed_backend=gloo'
fi
exec torchrun --standalone --nproc-per-node "$processes" --no-python \
    bash -c "exec fairseq-hydra-train \"\$@\" $overrides" fairseq-hydra-train "$@"
