#!/usr/bin/env bash
# LibriSpeech: ccc-wav2vec 2.0 or its wav2vec 2.0 baseline from the archives to WER and a Hugging Face folder.
#
#   recipes/librispeech/run.sh [--pretraining NAME] [--amount HOURS] [--labels KIND] [--gpus N] [--memory GIB] [--launcher "COMMAND"]
#       [--batch-seconds S] [--max-tokens N] [--out DIR] [--data DIR] [--from TREE] [--limited-from TREE]
#       [--librivox MANIFEST] [--noise MANIFEST] [--lm ARPA --lexicon WORDS] [--beam N] [--subsets A,B]
#       [--pretrain-checkpoint last|best]
#       [--seed N] [--stage N] [--stop-stage N] [--dry-run]
#       [--pretrain-override KEY=VALUE]... [--finetune-override KEY=VALUE]...
#
# Stages: 1 prepare, 2 pretrain, 3 finetune, 4 decode, 5 score, 6 export. What is done is kept: a stage that has its
# marker is passed over, an interrupted training resumes. --dry-run prints the plan and every command, does nothing.
# NAME is a file of config/pretraining (default ccc_base_960h). HOURS of labels are 10m, 1h, 10h, 100h (default) or 960h,
# KIND letters (default) or spm1000: files of config/finetuning/amount and recipes/shared/labels.
# ccc-w2v plan spreads their audio per update over --gpus of --memory; --batch-seconds and --max-tokens are for its plan
# of the pre-training. --pretrain-checkpoint names the one that is fine-tuned: the last, or that of the lowest
# validation loss, which the paper takes.
# --launcher is what starts fairseq-hydra-train on several GPUs or machines: "recipes/launch/one_node.sh 8"; without it
# fairseq takes the N GPUs that it sees. With --lm decoding searches with a 4-gram as well, at the published weights.
# --from, --limited-from and --noise name what need not be fetched: folders LibriSpeech and librispeech_finetuning, a
# manifest of noises (MUSAN's). --librivox is the manifest of Libri-light's 60,000 h, which is not fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."

source recipes/stages.sh
pretraining=ccc_base_960h amount=100h labels=letters gpus='' memory='' out=exp/librispeech data='' from='' limited_from=''
librivox='' pretrain_checkpoint=last noise='' lm='' lexicon='' beam=1500 subsets=dev_clean,dev_other,test_clean,test_other
batch_seconds='' max_tokens='' pretrain_override=() finetune_override=()
values="pretraining amount labels gpus memory batch-seconds max-tokens launcher out data from limited-from noise librivox"
read_options "$values pretrain-checkpoint lm lexicon beam subsets" "" "pretrain-override finetune-override" "$@"
configs=$PWD/recipes/librispeech/config
is_in "$configs/pretraining" --pretraining "$pretraining"
is_in "$configs/finetuning/amount" --amount "$amount"
is_in recipes/shared/labels --labels "$labels"
[[ $pretrain_checkpoint =~ ^(last|best)$ ]] || usage "--pretrain-checkpoint $pretrain_checkpoint: must be last or best"
[ -z "$lm" ] || [ -n "$lexicon" ] || usage "--lm needs --lexicon, the words of the language model"
must_exist --lm "$lm" "language model"
must_exist --lexicon "$lexicon" lexicon
must_exist --from "$from" folder
must_exist --limited-from "$limited_from" folder
must_exist --noise "$noise" manifest
must_exist --librivox "$librivox" manifest
read -ra launcher <<<"${launcher[*]}"
device=$(decoding_device "$gpus")
gpus=${gpus:-$(gpus_here)}
out=$(realpath -m "$out")
data=$(realpath -m "${data:-$out/data}")
manifests=$data/manifests
run=$out/$pretraining/seed$seed
size=$(setting "$configs/pretraining/$pretraining.yaml" defaults pretraining/size)
objective=$(setting "$configs/pretraining/$pretraining.yaml" defaults pretraining/objective)
finetuning=${size}_$amount
[ "$labels" = letters ] || finetuning+=_$labels
from_best=
[ "$pretrain_checkpoint" = last ] || from_best=_best
plain=$run/pretrain/plain$from_best.pt
finetuned=$run/$finetuning$from_best
best=$finetuned/checkpoints/checkpoint_best.pt
unlabelled=$(setting "$configs/pretraining/$pretraining.yaml" dataset train_subset)
labelled=$(setting "$configs/finetuning/amount/$amount.yaml" dataset train_subset)
sets=recipes/librispeech/sets.yaml
noisy=  # whether the second view needs a manifest of noises
if [ "$objective" = ccc ] && [ "$(setting "$configs/pretraining/$pretraining.yaml" task augment '?')" != telephone ]; then
    noisy=yes
fi

corpus() {  # split: what the plan counts full batches on
    plan_options=(--manifest "$manifests/$1.tsv")
    if [ -e "$manifests/$1.tsv" ]; then return; fi
    plan_options=()
    if [ -n "$dry_run" ]; then return; fi
    echo "error: $manifests/$1.tsv: no such manifest; stage 1 writes it" >&2
    exit 2
}

if wanted 1; then
    echo "1. prepare LibriSpeech"
    limited=$(setting $sets "$labelled" limited)
    text=$(setting $sets "$labelled" text)
    needed=$(setting $sets "$unlabelled" parts),$(setting $sets "$labelled" parts)
    [ "$labels" = letters ] || needed+=,$(setting $sets "$text" parts)
    parts=
    for part in train-clean-100 train-clean-360 train-other-500; do
        [[ ,$needed, != *,$part,* ]] || parts+=$part,
    done
    parts+=dev-clean,dev-other,test-clean,test-other
    run ccc-w2v prepare librispeech --out "$data" --parts "$parts" ${from:+--from "$from"} \
        ${limited:+--limited} ${limited_from:+--limited-from "$limited_from"}
    if [[ -n $librivox ]]; then
        run ln -sfn "$(realpath -m "$librivox")" "$manifests/train_librivox.tsv"
    fi
    if [[ -n $noisy && -z $noise ]]; then
        run_once "$data/musan/.done" ccc-w2v prepare musan --out "$data/musan"
    fi
    if [ "$labels" != letters ]; then
        run_once "$manifests/.$labels" ccc-w2v sentencepiece "$manifests/$text.wrd" --size 1000 \
            --out "$manifests"
    fi
fi
if wanted 2; then
    echo "2. pre-train: $pretraining"
    overrides=(task.data="$manifests")
    [ -z "$noisy" ] || overrides+=(task.noise_manifest="$(realpath -m "${noise:-$data/musan/free_sound.tsv}")")
    corpus "$unlabelled"
    plan_options+=(${batch_seconds:+--batch-seconds "$batch_seconds"} ${max_tokens:+--max-tokens "$max_tokens"})
    train_planned pre-training pretraining "$run/pretrain" "$pretraining" "${overrides[@]}" "${pretrain_override[@]}"
fi
if wanted 3; then
    echo "3. fine-tune: $finetuning"
    pretrained=$run/pretrain/checkpoints/checkpoint_$pretrain_checkpoint.pt
    run_from "$run/pretrain/.exported$from_best" "$pretrained" ccc-w2v export --to fairseq --overwrite \
        --checkpoint "$pretrained" --out "$plain"
    corpus "$labelled"
    train_planned fine-tuning finetuning "$finetuned" finetune "amount=$amount" "labels=$labels" "size=$size" \
        task.data="$manifests" model.w2v_path="$plain" "${finetune_override[@]}"
fi
if wanted 4; then
    echo "4. decode"
    weights=()
    [ -z "$lm" ] || weights=(--lm-weight "$(setting $sets "$labelled" lm_weight)" --word-score "$(setting $sets "$labelled" word_score)")
    for subset in ${subsets//,/ }; do
        decode "$finetuned/decode/$subset" "$best" "$manifests/$subset.tsv" --device "$device"
        [ -z "$lm" ] || decode "$finetuned/decode_lm/$subset" "$best" "$manifests/$subset.tsv" --device "$device" \
            --beam "$beam" --lm "$lm" --lexicon "$lexicon" "${weights[@]}"
    done
fi
if wanted 5; then
    echo "5. score"
    for subset in ${subsets//,/ }; do
        score "$finetuned/decode/$subset" --normalize librispeech
        [ -z "$lm" ] || score "$finetuned/decode_lm/$subset" --normalize librispeech
    done
fi
if wanted 6; then
    echo "6. export to Hugging Face"
    scores=() last=${subsets##*,}
    for subset in ${subsets//,/ }; do scores+=("$finetuned/decode/$subset/score.json"); done
    pieces=()
    [ "$labels" = letters ] || pieces=(--sentencepiece "$manifests/$labels.model")
    run_from "$finetuned/.huggingface" "$best" ccc-w2v export --to huggingface --overwrite --checkpoint "$best" \
        --out "$finetuned/huggingface" --manifest "$manifests/$last.tsv" --wer "${scores[@]}" "${pieces[@]}" \
        --recipe "recipes/librispeech $pretraining $finetuning"
fi
