#!/usr/bin/env bash
# The demo: pre-training, fine-tuning, decoding, scoring and export on recorded voice prompts, on two CPU cores.
#
#   recipes/prompts/run.sh [--stage N] [--stop-stage N] [--seed N] [--out DIR] [--source DIR] [--random-init] [--dry-run]
#
# Stages: 1 prepare, 2 pretrain, 3 export to plain fairseq, 4 finetune, 5 decode, 6 score, 7 export to Hugging Face,
# 8 the table. What is done is kept: a stage that has its marker is passed over, an interrupted training resumes.
# --random-init fine-tunes from random weights instead, for comparison (stages 1 and 4 to 6).
set -euo pipefail
cd "$(dirname "$0")/../.."

source recipes/stages.sh
out=exp/prompts source='' random_init=''
read_options "out source" "random-init" "" "$@"
out=$(realpath -m "$out")
data=$out/data
run=$out/seed$seed
finetuned=$run/finetune${random_init:+_random}
best=$finetuned/checkpoints/checkpoint_best.pt
config=$PWD/recipes/prompts/config
search=$(python -c 'import flashlight.lib.text, kenlm; print("yes")' 2>/dev/null || true)

# Two cores: two processes of one thread each, as two GPUs would be used. Matrices this small gain nothing from threads.
launcher=(recipes/launch/one_node.sh 2)
export OMP_NUM_THREADS=1

if wanted 1; then
    echo "1. prepare the prompts corpus"
    run python tools/prepare_prompts.py --out "$data" ${source:+--source "$source"}
    # Nineteen minutes of labelled speech are learnt by heart in minutes; copies at other speeds make that harder.
    run_once "$data/.speed" python tools/perturb_speed.py --manifest "$data/train.tsv" \
        --factors 0.85,0.9,0.95,1,1.05,1.1,1.15 --out "$data/train_speed.tsv"
fi
if wanted 2 && [ -z "$random_init" ]; then
    echo "2. pre-train with two views"
    train pre-training "$run/pretrain" pretrain task.data="$data" task.augment="$config/augment.yaml"
fi
if wanted 3 && [ -z "$random_init" ]; then
    echo "3. export to plain fairseq"
    run_once "$run/pretrain/.exported" python tools/export.py --to fairseq --overwrite \
        --checkpoint "$run/pretrain/checkpoints/checkpoint_last.pt" --out "$run/pretrain/plain.pt"
fi
if wanted 4; then
    echo "4. fine-tune with fairseq's own CTC model"
    train fine-tuning "$finetuned" finetune task.data="$data" model.w2v_path="$run/pretrain/plain.pt" \
        ${random_init:++model.no_pretrained_weights=true}
fi
if wanted 5; then
    echo "5. decode the held-out prompts"
    decode "$finetuned/decode" "$best" "$data/test.tsv"
    if [ -n "$search" ]; then
        # Words and their 3-grams of the training transcripts: tools/train_lm.py train.wrd --order 3 --out words.arpa
        [ -n "$dry_run" ] || tr ' ' '\n' <"$data/train.wrd" | LC_ALL=C sort -u >"$data/words.txt"
        decode "$finetuned/decode_lm" "$best" "$data/test.tsv" \
            --beam 50 --lm recipes/prompts/words.arpa --lexicon "$data/words.txt" --lm-weight 1
    else
        echo "  flashlight-text, which has no wheel for Python 3.13, is not installed: no decoding with a language model"
    fi
fi
if wanted 6; then
    echo "6. score"
    score "$finetuned/decode"
    if [ -n "$search" ]; then score "$finetuned/decode_lm"; fi
fi
if wanted 7 && [ -z "$random_init" ]; then
    echo "7. export to Hugging Face"
    run_once "$run/.huggingface" python tools/export.py --to huggingface --overwrite \
        --checkpoint "$best" --out "$run/huggingface" --manifest "$data/test.tsv" --wer "$finetuned/decode/score.json"
fi
if wanted 8 && [ -z "$random_init" ]; then
    negatives=$(sed -n "s/^  num_negatives: //p" "$config/pretrain.yaml")
    run python tools/summarize.py --pretrain "$run/pretrain" --negatives "$negatives" --exported "$run/huggingface" \
        --score "$finetuned/decode/score.json" --lm-score "$finetuned/decode_lm/score.json"
fi
