#!/usr/bin/env bash
# What one_node.sh and multi_node.sh share: torchrun with a rank of fairseq-hydra-train in each of its processes.
#
#   recipes/launch/ranks.sh WORLD_SIZE [torchrun's options] -- [fairseq-hydra-train's arguments]
#
# SIGUSR1 and SIGTERM make the ranks save and leave; the exit code is then 75, after Ctrl-C 130, and the same command
# continues. A rank that fails is named with its reason in the last line, and its exit code (2: a mistake) is this one's.
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

# Where the ranks say why they end: torchrun's own report is long and ends with an exit code of 1 for everything.
CCC_W2V_FAILURE=$(mktemp)
export CCC_W2V_FAILURE
trap 'rm -f "$CCC_W2V_FAILURE"' EXIT

told='' interrupted='' torchrun=''
trap 'told=1' USR1 TERM
# Job control, for without it a background process ignores Ctrl-C until torchrun listens itself.
set -m
# The first Ctrl-C is for the ranks, which save and leave; where there is none yet, and the second time, for torchrun.
# shellcheck disable=SC2329  # the trap below calls it
interrupt() {
    if [ -n "$interrupted" ] || ! pkill -INT -P "$torchrun"; then
        kill -INT "$torchrun" 2>/dev/null || true
    fi
    interrupted=1
}
trap interrupt INT
# torchrun would pass SIGTERM on and kill the ranks 30 s later, in the middle of a validation or of a slow disk's save.
(
    trap '' USR1 TERM
    exec torchrun --signals-to-handle SIGINT,SIGHUP,SIGQUIT "${options[@]}" --no-python \
        bash -c "exec fairseq-hydra-train \"\$@\" $overrides" fairseq-hydra-train "$@"
) &
torchrun=$!
status=0
while kill -0 "$torchrun" 2>/dev/null; do
    if [ -n "$told" ]; then
        # More than once, for a rank that is still starting does not listen.
        pkill -USR1 -P "$torchrun" || true
        sleep 1
    else
        wait "$torchrun" || status=$?
    fi
done
if [ -n "$told" ]; then
    status=0
    wait "$torchrun" || status=75
elif [ -n "$interrupted" ]; then
    status=130
elif [ "$status" != 0 ] && read -r code line <"$CCC_W2V_FAILURE"; then
    echo "$line" >&2
    status=$code
fi
exit "$status"
