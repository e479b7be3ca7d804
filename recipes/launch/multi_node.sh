#!/usr/bin/env bash
# Several machines: the same command on each of them, within five minutes; torchrun brings them together.
#
#   recipes/launch/multi_node.sh NODES PROCESSES HEAD[:PORT] --config-dir ... --config-name pretrain [more]
#
# NODES machines run PROCESSES (GPUs) each; HEAD is the host name or address of one of them, which the others reach at
# PORT (29400). Everything after it goes to fairseq-hydra-train. Stopped, the same commands continue.
# checkpoint.save_dir and task.data must be the same folders on every machine.
set -euo pipefail
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ && ${2:-} =~ ^[1-9][0-9]*$ && ${3:-} =~ ^[^-:][^:]*(:[0-9]+)?$ ]] || [ $# -lt 4 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    echo "error: expected the numbers of machines and of processes on each, the head's address, then the arguments of" \
        "fairseq-hydra-train" >&2
    exit 2
fi
nodes=$1 processes=$2 head=${3%%:*} port=29400
[ "$head" = "$3" ] || port=${3##*:}
shift 3

# torchrun would take its own host name for this machine's address and compare it with the head's, which fails where
# names are local or there are several networks: the address from which this machine reaches the head tells both.
if ! read -r address is_host < <(python -c '
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
    head = socket.gethostbyname(sys.argv[1])
    route.connect((head, 9))  # sends nothing
    own = route.getsockname()[0]
is_head = own == head or head.startswith("127.")
print(sys.argv[1] if is_head else own, int(is_head))' "$head"); then
    echo "error: the head $head cannot be reached from $(hostname); name a host or address that every machine knows" >&2
    exit 2
fi
exec "$(dirname "$0")/ranks.sh" $((nodes * processes)) --nnodes "$nodes" --nproc-per-node "$processes" \
    --rdzv-backend c10d --rdzv-endpoint "$head:$port" --rdzv-id "${SLURM_JOB_ID:-ccc_w2v}" \
    --rdzv-conf "is_host=$is_host,join_timeout=300,read_timeout=300" --local-addr "$address" -- "$@"
