#!/usr/bin/env bash
# The demo: pre-training, fine-tuning, decoding, scoring and export on recorded voice prompts, on two CPU cores.
#
#   recipes/prompts/run.sh [--stage N] [--stop-stage N] [--seed N] [--out DIR] [--source DIR] [--random-init]
#
# Stages: 1 prepare, 2 pretrain, 3 export to plain fairseq, 4 finetune, 5 decode, 6 score, 7 export to Hugging Face,
# 8 the table. What is done is kept: a stage that has its marker is passed over, a training that was stopped goes on.
# --random-init fine-tunes from random weights instead, for comparison (stages 1 and 4 to 6).
set -euo pipefail
cd "$(dirname "$0")/../.."

stage=1 stop_stage=8 seed=1 out=exp/prompts source='' init=pretrained
while [ $# -gt 0 ]; do
    case $1 in
        --stage) stage=$2; shift 2 ;;
        --stop-stage) stop_stage=$2; shift 2 ;;
        --seed) seed=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --source) source=$2; shift 2 ;;
        --random-init) init=random; shift ;;
        *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; echo "error: unknown option $1" >&2; exit 2 ;;
    esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
data=$out/data
run=$out/seed$seed
finetuned=$run/finetune
[ "$init" = pretrained ] || finetuned=$run/finetune_random
config=$PWD/recipes/prompts/config
plugin=$(python -m ccc_w2v)

# Two cores: two processes of one thread each, as two GPUs would be used. Matrices this small gain nothing from threads.
processes=2
export OMP_NUM_THREADS=1

wanted() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

run_once() {  # marker, then the command; the marker appears when the command has succeeded
    local marker=$1
    shift
    if [ -e "$marker" ]; then
        echo "  done before: $marker"
        return
    fi
    printf '  $'; printf ' %q' "$@"; echo
    "$@"
    touch "$marker"
}

train() {  # title, folder, config name, then overrides
    local title=$1 folder=$2 name=$3 updates
    shift 3
    mkdir -p "$folder"
    updates=$(sed -n 's/^  max_update: //p' "$config/$name.yaml")
    run_once "$folder/.done" python tools/follow.py --title "$title" --updates "$updates" --log "$folder/train.log" -- \
        recipes/launch/one_node.sh $processes --config-dir "$config" --config-name "$name" common.user_dir="$plugin" \
        hydra.run.dir="$folder" task.data="$data" common.seed="$seed" "$@"
}

if wanted 1; then
    echo "1. prepare the prompts corpus"
    python tools/prepare_prompts.py --out "$data" ${source:+--source "$source"}
    # Nineteen minutes of labelled speech are learnt by heart in minutes; copies at other speeds make that harder.
    run_once "$data/.speed" python tools/perturb_speed.py --manifest "$data/train.tsv" \
        --factors 0.85,0.9,0.95,1,1.05,1.1,1.15 --out "$data/train_speed.tsv"
fi
if wanted 2 && [ "$init" = pretrained ]; then
    echo "2. pre-train with two views"
    train pre-training "$run/pretrain" pretrain task.augment="$config/augment.yaml"
fi
if wanted 3 && [ "$init" = pretrained ]; then
    echo "3. export to plain fairseq"
    run_once "$run/pretrain/.exported" python tools/export.py --to fairseq --overwrite \
        --checkpoint "$run/pretrain/checkpoints/checkpoint_last.pt" --out "$run/pretrain/plain.pt"
fi
if wanted 4; then
    echo "4. fine-tune with fairseq's own CTC model"
    if [ "$init" = pretrained ]; then
        train fine-tuning "$finetuned" finetune model.w2v_path="$run/pretrain/plain.pt"
    else
        train fine-tuning "$finetuned" finetune model.w2v_path="$run/pretrain/plain.pt" +model.no_pretrained_weights=true
    fi
fi
if wanted 5; then
    echo "5. decode the held-out prompts"
    run_once "$finetuned/.decoded" python tools/decode.py --checkpoint "$finetuned/checkpoints/checkpoint_best.pt" \
        --manifest "$data/test.tsv" --out "$finetuned/decode"
    if python -c 'import flashlight.lib.text, kenlm' 2>/dev/null; then
        # Words and their 3-grams of the training transcripts: tools/train_lm.py train.wrd --order 3 --out words.arpa
        tr ' ' '\n' <"$data/train.wrd" | LC_ALL=C sort -u >"$data/words.txt"
        run_once "$finetuned/.decoded_lm" python tools/decode.py --checkpoint "$finetuned/checkpoints/checkpoint_best.pt" \
            --manifest "$data/test.tsv" --out "$finetuned/decode_lm" \
            --beam 50 --lm recipes/prompts/words.arpa --lexicon "$data/words.txt" --lm-weight 1
    else
        echo "  flashlight-text, which has no wheel for Python 3.13, is not installed: no decoding with a language model"
    fi
fi
if wanted 6; then
    echo "6. score"
    run_once "$finetuned/.scored" python tools/score.py --ref "$finetuned/decode/ref.trn" \
        --hyp "$finetuned/decode/hyp.trn" --json "$finetuned/score.json"
    if [ -e "$finetuned/.decoded_lm" ]; then
        run_once "$finetuned/.scored_lm" python tools/score.py --ref "$finetuned/decode_lm/ref.trn" \
            --hyp "$finetuned/decode_lm/hyp.trn" --json "$finetuned/score_lm.json"
    fi
fi
if wanted 7 && [ "$init" = pretrained ]; then
    echo "7. export to Hugging Face"
    run_once "$run/.huggingface" python tools/export.py --to huggingface --overwrite \
        --checkpoint "$finetuned/checkpoints/checkpoint_best.pt" --out "$run/huggingface" \
        --manifest "$data/test.tsv" --wer "$finetuned/score.json"
fi
if wanted 8 && [ "$init" = pretrained ]; then
    negatives=$(sed -n "s/^  num_negatives: //p" "$config/pretrain.yaml")
    python tools/summarize.py --pretrain "$run/pretrain" --negatives "$negatives" \
        --score "$finetuned/score.json" --lm-score "$finetuned/score_lm.json" --exported "$run/huggingface"
fi
