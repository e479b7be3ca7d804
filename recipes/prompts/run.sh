#!/usr/bin/env bash
# The demo: does pre-training help? Pre-training, fine-tuning with few labels, decoding, scoring and export on recorded
# voice prompts, on two CPU cores; beside it the same fine-tuning from random weights.
#
#   recipes/prompts/run.sh [--stage N] [--stop-stage N] [--seed N] [--out DIR] [--source DIR] [--dry-run]
#
# Stages: 1 prepare, 2 pretrain, 3 probe frozen features, 4 finetune, 5 decode, 6 score, 7 export to Hugging Face,
# 8 the table and summary.json. What is done is kept: a stage that has its marker is passed over, an interrupted training
# resumes. The pre-training continues from small.pt, which small.md describes.
set -euo pipefail
cd "$(dirname "$0")/../.."

source recipes/stages.sh
out=exp/prompts source=''
read_options "out source" "" "" "$@"
out=$(realpath -m "$out")
data=$out/data
run=$out/seed$seed
config=$PWD/recipes/prompts/config
start=$PWD/recipes/prompts/small.pt
search=$(python -c 'import flashlight.lib.text, kenlm; print("yes")' 2>/dev/null || true)

# Two cores: two processes of one thread each, as two GPUs would be used. Matrices this small gain nothing from threads.
launcher=(recipes/launch/one_node.sh 2)
export OMP_NUM_THREADS=1

begun=$SECONDS
spent() {  # stage: add the seconds since the last stage to seconds.tsv, which the summary reads
    if [ -z "$dry_run" ] && [ "$SECONDS" -gt "$begun" ]; then
        mkdir -p "$run"
        printf '%s\t%s\n' "$1" $((SECONDS - begun)) >>"$run/seconds.tsv"
    fi
    begun=$SECONDS
}

if wanted 1; then
    echo "1. prepare the prompts corpus"
    run ccc-w2v prepare prompts --out "$data" ${source:+--from "$source"}
    # Every fourth labelled prompt, about five minutes: few labels are where pre-training matters.
    if [ -z "$dry_run" ]; then
        awk 'NR == 1 || NR % 4 == 2' "$data/train.tsv" >"$data/train_few.tsv"
        for labels in ltr wrd; do awk 'NR % 4 == 1' "$data/train.$labels" >"$data/train_few.$labels"; done
    fi
    spent prepare
fi
if wanted 2; then
    echo "2. pre-train with two views"
    train pre-training "$run/pretrain" pretrain task.data="$data" task.augment="$config/augment.yaml" \
        checkpoint.finetune_from_model="$start"
    spent pretrain
fi
if wanted 3; then
    echo "3. probe the frozen features, and those of random weights (one update at a learning rate of 0)"
    train "random weights" "$run/random" pretrain task.data="$data" task.augment="$config/augment.yaml" \
        optimization.max_update=1 "optimization.lr=[0.0]"
    for model in pretrain random; do
        last=$run/$model/checkpoints/checkpoint_last.pt
        run_from "$run/$model/.probed" "$last" ccc-w2v probe --checkpoint "$last" \
            --train "$data/train_few.tsv" --dev "$data/valid.tsv" --test "$data/test.tsv" --head lstm --seed "$seed" \
            --updates 900 --out "$run/$model/probe"
    done
    spent probe
fi
if wanted 4; then
    last=$run/pretrain/checkpoints/checkpoint_last.pt
    run_from "$run/pretrain/.exported" "$last" ccc-w2v export --to fairseq --overwrite --checkpoint "$last" \
        --out "$run/pretrain/plain.pt"
    echo "4. fine-tune with fairseq's own CTC model, after pre-training and from random weights"
    train "fine-tuning, pre-trained" "$run/finetune" finetune task.data="$data" model.w2v_path="$run/pretrain/plain.pt"
    spent finetune
    train "fine-tuning, random" "$run/finetune_random" finetune task.data="$data" \
        model.w2v_path="$run/pretrain/plain.pt" +model.no_pretrained_weights=true model.feature_grad_mult=1.0
    spent finetune_random
fi
if wanted 5; then
    echo "5. decode the held-out prompts"
    # Words and their 3-grams of the training transcripts: ccc-w2v train-lm train.wrd --order 3 --out words.arpa
    [ -n "$dry_run" ] || tr ' ' '\n' <"$data/train.wrd" | LC_ALL=C sort -u >"$data/words.txt"
    [ -n "$search" ] ||
        echo "  flashlight-text, which has no wheel for Python 3.13, is not installed: no decoding with a language model"
    for model in finetune finetune_random; do
        best=$run/$model/checkpoints/checkpoint_best.pt
        decode "$run/$model/decode" "$best" "$data/test.tsv"
        [ -z "$search" ] || decode "$run/$model/decode_lm" "$best" "$data/test.tsv" \
            --beam 50 --lm recipes/prompts/words.arpa --lexicon "$data/words.txt" --lm-weight 1
    done
    spent decode
fi
if wanted 6; then
    echo "6. score"
    for model in finetune finetune_random; do
        score "$run/$model/decode"
        [ -z "$search" ] || score "$run/$model/decode_lm"
    done
    spent score
fi
if wanted 7; then
    echo "7. export to Hugging Face"
    best=$run/finetune/checkpoints/checkpoint_best.pt
    run_from "$run/.huggingface" "$best" ccc-w2v export --to huggingface --overwrite --checkpoint "$best" \
        --out "$run/huggingface" --manifest "$data/test.tsv" --wer "$run/finetune/decode/score.json"
    spent export_huggingface
fi
if wanted 8; then
    negatives=$(sed -n "s/^  num_negatives: //p" "$config/pretrain.yaml")
    run ccc-w2v summarize "$run" --negatives "$negatives"
fi
