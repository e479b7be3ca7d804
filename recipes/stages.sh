# shellcheck shell=bash
# Sourced by the run.sh of each recipe, from the repository's root: options, numbered stages, commands that are shown
# before they run. Everything that is done leaves a marker, so that the same command resumes where it stopped; the marker
# of what is made from a checkpoint holds its digest, so that another checkpoint of that name is not taken for it.
#
# A recipe gives its options their defaults and calls read_options; then, stage by stage, `if wanted N; then` with
# the functions below in it. Variables that these functions read: stage, stop_stage, seed, dry_run (yes, or empty),
# config (folder of YAMLs), launcher (array: the command that fairseq-hydra-train's arguments are given to), and for
# train_planned configs (folder of config's folders), gpus, memory (GiB of each, or empty), plan_options (array).

stage=1 stop_stage=99 seed=1 dry_run=''
launcher=(fairseq-hydra-train) plan_options=()

usage() {  # what is wrong: the recipe's leading comment, then one line, exit code 2
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0" >&2
    echo "error: $1" >&2
    exit 2
}

read_options() {  # "options with a value" "flags" "options that may be repeated", then the command line
    local values=" stage stop-stage seed $1 " flags=" dry-run $2 " lists=" $3 " name
    shift 3
    while [ $# -gt 0 ]; do
        name=${1#--}
        case $1 in
            --help) awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; exit 0 ;;
            --*) ;;
            *) usage "unexpected argument $1" ;;
        esac
        if [[ $flags == *" $name "* ]]; then
            printf -v "${name//-/_}" yes
            shift
            continue
        fi
        [[ $values$lists == *" $name "* ]] || usage "unknown option $1"
        [ $# -ge 2 ] || usage "$1 needs a value"
        if [[ $lists == *" $name "* ]]; then
            local -n list=${name//-/_}
            list+=("$2")
            unset -n list
        else
            printf -v "${name//-/_}" %s "$2"
        fi
        shift 2
    done
    for name in stage stop_stage seed; do
        [[ ${!name} =~ ^[0-9]+$ ]] || usage "--${name//_/-} ${!name}: must be a whole number"
    done
}

setting() {  # YAML file, two keys, what to print where they are missing (else an error): the value; lists with commas
    python -c '
import sys, yaml
path, section, key, *default = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    node = yaml.safe_load(file).get(section, {})
if isinstance(node, list):  # a list of defaults: group: choice
    node = {name: choice for entry in node if isinstance(entry, dict) for name, choice in entry.items()}
value = node.get(key, *default) if default else node[key]
value = ",".join(value) if isinstance(value, list) else {True: "yes", False: ""}[value] if isinstance(value, bool) else value
print(value)' "$@"
}

wanted() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

show() { printf '  $'; printf ' %q' "$@"; echo; }

finished() {  # marker
    [ -e "$1" ] && echo "  done before: $1"
}

run() {  # a command that knows by itself what is done already
    show "$@"
    [ -n "$dry_run" ] || "$@"
}

run_once() {  # marker, then the command; the marker appears when the command has succeeded
    local marker=$1
    shift
    if finished "$marker"; then return; fi
    show "$@"
    if [ -n "$dry_run" ]; then return; fi
    mkdir -p "$(dirname "$marker")"
    "$@"
    touch "$marker"
}

digest() {  # file or folder: its content in one word; nothing where there is none
    [ ! -e "$1" ] || find -L "$1" -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -d ' ' -f 1
}

unchanged() {  # marker, source: whether what is done was made from what is there now
    local now
    now=$(digest "$2")
    [ -z "$now" ] || [ "$(cat "$1")" = "$now" ]
}

run_from() {  # marker, what it is made from, then a command that knows --overwrite: once for each content of the source
    local marker=$1 source=$2
    shift 2
    if [ -e "$marker" ]; then
        if unchanged "$marker" "$source"; then
            finished "$marker"
            return
        fi
        echo "  made before, from another $source: $marker"
        set -- "$@" --overwrite
    fi
    show "$@"
    if [ -n "$dry_run" ]; then return; fi
    mkdir -p "$(dirname "$marker")"
    "$@"
    digest "$source" >"$marker"
}

start_of() {  # overrides of a training: the checkpoint that it begins with, if it has one
    local word
    for word in "$@"; do
        case $word in model.w2v_path=* | checkpoint.finetune_from_model=*) echo "${word#*=}" ;; esac
    done
}

trained() {  # folder, then overrides: whether this training is finished; one from other weights is an error
    local folder=$1 start
    shift
    start=$(start_of "$@")
    [ -e "$folder/.done" ] || return 1
    if [ -s "$folder/.done" ] && ! unchanged "$folder/.done" "$start"; then
        echo "error: $folder: was trained from another $start; move the folder away to train again" >&2
        exit 2
    fi
    finished "$folder/.done"
}

train() {  # title, folder, config name, then overrides: a training with a progress bar, all it prints in train.log
    local title=$1 folder=$2 name=$3
    shift 3
    local command=("${launcher[@]}" --config-dir "$config" --config-name "$name" common.user_dir="$(python -m ccc_w2v)"
        hydra.run.dir="$folder" common.seed="$seed" "$@")
    if trained "$folder" "$@"; then return; fi
    show "${command[@]}"
    if [ -n "$dry_run" ]; then return; fi
    ccc-w2v follow --title "$title" --log "$folder/train.log" -- "${command[@]}"
    digest "$(start_of "$@")" >"$folder/.done"
}

is_in() {  # folder of YAMLs, option, name
    local names
    [ ! -e "$1/$3.yaml" ] || return 0
    names=$(cd "$1" && echo *.yaml)
    usage "$2 $3: unknown; available: ${names//.yaml/}"
}

must_exist() {  # option, path, what it is: dry or not, a recipe begins with nothing that is not there
    [ -z "$2" ] || [ -e "$2" ] || usage "$1 $2: no such $3"
}

decoding_device() {  # the --gpus that were asked for; in a dry run the machine that is meant need not be this one
    if nvidia-smi -L >/dev/null 2>&1 || [[ -n $dry_run && ${1:-0} -gt 0 ]]; then echo cuda; else echo cpu; fi
}

gpus_here() {  # how many GPUs this machine has; 1 where it has none
    local count
    count=$(nvidia-smi -L 2>/dev/null | grep -c ^GPU || true)
    echo $((count > 0 ? count : 1))
}

train_planned() {  # title, kind, folder, name, then overrides: a recipe spread over the GPUs by ccc-w2v plan
    local title=$1 kind=$2 folder=$3 name=$4 text counts=$gpus
    shift 4
    if trained "$folder" "$@"; then return; fi
    config=$configs/$kind
    [ -z "$dry_run" ] || counts=$gpus,1,8,64
    text=$(ccc-w2v plan "$config/$name.yaml" "$@" --gpus "$counts" ${memory:+--memory "$memory"} \
        "${plan_options[@]}" --print-overrides)
    local -a planned
    mapfile -t planned <<<"$text"
    train "$title" "$folder" "$name" "$@" "${planned[@]}"
}

decode() {  # folder for the hypotheses, checkpoint, manifest, then options of ccc-w2v decode
    local folder=$1 checkpoint=$2 manifest=$3
    shift 3
    run_from "$folder/.decoded" "$checkpoint" ccc-w2v decode --checkpoint "$checkpoint" --manifest "$manifest" \
        --out "$folder" "$@"
}

score() {  # folder of the hypotheses, then options of ccc-w2v score; the numbers go to score.json in it
    local folder=$1
    shift
    run_once "$folder/score.json" ccc-w2v score --ref "$folder/ref.trn" --hyp "$folder/hyp.trn" \
        --json "$folder/score.json" "$@"
}
