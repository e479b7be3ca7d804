#!/usr/bin/env bash
# One machine, N processes: on its GPUs with NCCL, or on its CPU cores with gloo where it has none.
#
#   recipes/launch/one_node.sh [--spawn] N --config-dir recipes/prompts/config --config-name pretrain [more]
#
# Everything after N goes to fairseq-hydra-train. Stopped, the same command continues. torchrun starts the processes, or
# with --spawn fairseq itself, on GPUs only (README.md says what differs when one dies or is told to stop).
set -euo pipefail
spawn=
if [ "${1:-}" = --spawn ]; then
    spawn=1
    shift
fi
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || [ $# -lt 2 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    echo "error: expected a number of processes, then the arguments of fairseq-hydra-train" >&2
    exit 2
fi
processes=$1
shift

if [ -n "$spawn" ]; then
    gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
    if [ "$gpus" -lt "$processes" ]; then
        echo "error: --spawn $processes needs as many GPUs, found $gpus; without --spawn it runs on CPU cores too" >&2
        exit 2
    fi
    exec fairseq-hydra-train "$@" distributed_training.distributed_world_size="$processes"
fi
# By number: in a container, or on a laptop in another network, a machine's own name may not be found, and each search for
# it takes a minute.
exec "$(dirname "$0")/ranks.sh" "$processes" --standalone --local-addr 127.0.0.1 --nproc-per-node "$processes" -- "$@"
