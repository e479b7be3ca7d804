#!/usr/bin/env bash
# What one_node.sh and multi_node.sh share: start one rank of fairseq-hydra-train in each process of torchrun.
#
#   recipes/launch/ranks.sh WORLD_SIZE [torchrun's options] -- [fairseq-hydra-train's arguments]
set -euo pipefail
world_size=$1
shift
options=()
while [ "$1" != -- ]; do
    options+=("$1")
    shift
done
shift

# fairseq finds torchrun's variables by itself only where it counts several GPUs.
overrides="distributed_training.distributed_world_size=$world_size distributed_training.distributed_no_spawn=true"
overrides+=" distributed_training.distributed_init_method=env://"
overrides+=" distributed_training.distributed_rank=\$RANK distributed_training.device_id=\$LOCAL_RANK"
if [ "$(python -c 'import torch; print(torch.cuda.device_count())')" = 0 ]; then
    overrides+=" distributed_training.distributed_backend=gloo"
fi
# Slurm sends SIGUSR1 to every process of a job: torchrun would die of it, the ranks save and leave.
trap '' USR1
exec torchrun "${options[@]}" --no-python bash -c "exec fairseq-hydra-train \"\$@\" $overrides" fairseq-hydra-train "$@"
