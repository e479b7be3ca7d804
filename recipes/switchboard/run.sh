#!/usr/bin/env bash
# Switchboard: a LibriSpeech checkpoint adapted to the telephone, fine-tuned, and scored on Hub5'00 by NIST's rules.
#
#   recipes/switchboard/run.sh --pretrained CHECKPOINT --train DIR --eval2000-audio DIR --eval2000-text DIR
#       [--transcripts DIR] [--rt03 DIR] [--fisher DIR,DIR] [--noise MANIFEST] [--amount HOURS] [--labels KIND] [--no-adaptation]
#       [--adapt-checkpoint last|best] [--speed-perturbation]
#       [--librispeech-model CHECKPOINT] [--gpus N] [--memory GIB] [--launcher "COMMAND"] [--out DIR] [--data DIR]
#       [--lm ARPA --lexicon WORDS] [--beam N] [--lm-weight X] [--word-score X]
#       [--seed N] [--stage N] [--stop-stage N] [--dry-run]
#       [--prepare-option OPTION]... [--adapt-override KEY=VALUE]... [--finetune-override KEY=VALUE]...
#
# Stages: 1 prepare, 2 adapt, 3 finetune, 4 zero-shot, 5 decode, 6 score, 7 export. What is done is kept: a stage that
# has its marker is passed over, an interrupted training resumes. --dry-run prints every command and does nothing.
# --pretrained is a BASE model pre-trained on LibriSpeech (ours or fairseq's), --librispeech-model one fine-tuned there
# (fairseq's or a folder of transformers), which stage 4 decodes telephone speech with as it is. The folders are LDC's:
# LDC97S62, LDC2002S09, LDC2002T43, LDC2007S10. HOURS of labels are 30h, 110h or 300h (default), KIND letters
# (default) or spm1000. --no-adaptation fine-tunes the checkpoint as it is. --noise is a manifest of noises for adaptation, else MUSAN is fetched (11 GB).
# --adapt-checkpoint names the adapted checkpoint that is fine-tuned: the last, or that of the lowest validation loss.
# --speed-perturbation fine-tunes on the labelled set at speeds 0.95, 1 and 1.05. ccc-w2v plan spreads the audio per
# update over --gpus of --memory; --launcher is what starts fairseq-hydra-train on several: "recipes/launch/one_node.sh
# 8", else fairseq takes the N GPUs it sees.
set -euo pipefail
cd "$(dirname "$0")/../.."

source recipes/stages.sh
pretrained='' train='' transcripts='' eval2000_audio='' eval2000_text='' rt03='' fisher='' amount=300h labels=letters
no_adaptation='' librispeech_model='' out=exp/switchboard data='' lm='' lexicon='' beam=500 lm_weight=1 word_score=0
gpus='' memory='' noise='' adapt_checkpoint=last speed_perturbation=''
prepare_option=() adapt_override=() finetune_override=()
values="pretrained train transcripts eval2000-audio eval2000-text rt03 fisher amount labels librispeech-model"
values+=" gpus memory launcher out data noise adapt-checkpoint lm lexicon beam lm-weight word-score"
read_options "$values" "no-adaptation speed-perturbation" \
    "prepare-option adapt-override finetune-override" "$@"
configs=$PWD/recipes/switchboard/config
is_in "$configs/finetuning/amount" --amount "$amount"
is_in recipes/shared/labels --labels "$labels"
finetuning=base_$amount
[ "$labels" = letters ] || finetuning+=_$labels
[ -z "$lm" ] || [ -n "$lexicon" ] || usage "--lm needs --lexicon, the words of the language model"
[[ $adapt_checkpoint =~ ^(last|best)$ ]] || usage "--adapt-checkpoint $adapt_checkpoint: must be last or best"
if wanted 2 || wanted 3; then [ -n "$pretrained" ] || usage "stages 2 and 3 need --pretrained, a checkpoint"; fi
must_exist --pretrained "$pretrained" checkpoint
must_exist --librispeech-model "$librispeech_model" "checkpoint or folder of transformers"
must_exist --noise "$noise" manifest
must_exist --lm "$lm" "language model"
must_exist --lexicon "$lexicon" lexicon
for name in train transcripts eval2000_audio eval2000_text rt03; do must_exist "--${name//_/-}" "${!name}" folder; done
for folder in ${fisher//,/ }; do must_exist --fisher "$folder" folder; done
read -ra launcher <<<"${launcher[*]}"
device=$(decoding_device "$gpus")
gpus=${gpus:-$(gpus_here)}
out=$(realpath -m "$out")
data=$(realpath -m "${data:-$out/data}")
run=$out/seed$seed
from_best=
if [ -z "$no_adaptation" ] && [ "$adapt_checkpoint" = best ]; then from_best=_best; fi
finetuned=$run/$finetuning${no_adaptation:+_unadapted}$from_best${speed_perturbation:+_speeds}
best=$finetuned/checkpoints/checkpoint_best.pt
start=$run/start.pt
[ -n "$no_adaptation" ] || start=$run/adapted$from_best.pt
labelled=$(setting "$configs/finetuning/amount/$amount.yaml" dataset train_subset)
sets=eval2000
[ -z "$rt03" ] || sets="eval2000 rt03"

plain() {  # checkpoint, target: the checkpoint without our plugin, as fine-tuning and adaptation take it
    run_from "${2%.pt}.exported" "$1" ccc-w2v export --to fairseq --overwrite --checkpoint "$1" --out "$2"
}

recognise() {  # folder, checkpoint: greedy, and with the language model where one is given
    for set in $sets; do
        decode "$1/$set" "$2" "$data/$set.tsv" --device "$device"
        [ -z "$lm" ] || decode "$1/${set}_lm" "$2" "$data/$set.tsv" --device "$device" --beam "$beam" --lm "$lm" \
            --lexicon "$lexicon" --lm-weight "$lm_weight" --word-score "$word_score"
    done
}

counted() {  # list: what the plan counts full batches on, once stage 1 has written it
    plan_options=()
    [ ! -e "$data/$1.tsv" ] || plan_options=(--manifest "$data/$1.tsv")
}

# hyp.trn tells of utterances without a word too; its words stay in the segment that they were decoded from.
score_hub5() {  # folder of recognise: by NIST's rules, the halves apart
    local folder
    for set in $sets; do
        for folder in "$1/$set" ${lm:+"$1/${set}_lm"}; do
            run_once "$folder/score.json" ccc-w2v score --standard hub5 --stm "$data/$set.stm" \
                --glm "$data/$set.glm" --segments "$data/$set.segments" --hyp "$folder/hyp.trn" \
                --ctm-out "$folder/recordings.ctm" --json "$folder/score.json" --overwrite
        done
    done
}

if wanted 1; then
    echo "1. prepare Switchboard, Hub5'00${rt03:+ and RT-03}"
    run ccc-w2v prepare switchboard --out "$data" ${train:+--train "$train"} \
        ${transcripts:+--transcripts "$transcripts"} ${eval2000_audio:+--eval2000-audio "$eval2000_audio"} \
        ${eval2000_text:+--eval2000-text "$eval2000_text"} ${rt03:+--rt03 "$rt03"} ${fisher:+--fisher "$fisher"} \
        "${prepare_option[@]}"
    if [ "$labels" != letters ]; then
        run_once "$data/.$labels" ccc-w2v sentencepiece "$data/train_nodup.wrd" --size 1000 \
            --out "$data" --splits dev,train_nodup,train_100k_nodup,train_30h
    fi
    if [ -n "$speed_perturbation" ]; then
        run_once "$data/.${labelled}_speeds" ccc-w2v speed "$data/$labelled.tsv" \
            --factors 0.95,1,1.05 --out "$data/${labelled}_speeds.tsv"
    fi
    if [[ -z $no_adaptation && -z $noise ]]; then
        run_once "$data/musan/.done" ccc-w2v prepare musan --out "$data/musan"
    fi
fi
if wanted 2 && [ -z "$no_adaptation" ]; then
    echo "2. adapt: continue pre-training on telephone speech without transcripts"
    plain "$pretrained" "$run/start.pt"
    counted pretrain
    train_planned adaptation pretraining "$run/adapt" ccc_base_switchboard task.data="$data" \
        task.noise_manifest="$(realpath -m "${noise:-$data/musan/free_sound.tsv}")" checkpoint.finetune_from_model="$run/start.pt" "${adapt_override[@]}"
    plain "$run/adapt/checkpoints/checkpoint_$adapt_checkpoint.pt" "$start"
fi
if wanted 3; then
    echo "3. fine-tune: $finetuning"
    [ -z "$no_adaptation" ] || plain "$pretrained" "$run/start.pt"
    overrides=(task.data="$data" model.w2v_path="$start")
    if [ -n "$speed_perturbation" ]; then
        labelled+=_speeds
        overrides+=(dataset.train_subset="$labelled")
    fi
    counted "$labelled"
    train_planned fine-tuning finetuning "$finetuned" finetune "amount=$amount" "labels=$labels" "${overrides[@]}" "${finetune_override[@]}"
fi
if wanted 4 && [ -n "$librispeech_model" ]; then
    echo "4. zero-shot: the LibriSpeech model on telephone speech"
    recognise "$out/zero_shot" "$librispeech_model"
    score_hub5 "$out/zero_shot"
fi
if wanted 5; then
    echo "5. decode"
    recognise "$finetuned/decode" "$best"
fi
if wanted 6; then
    echo "6. score"
    score_hub5 "$finetuned/decode"
fi
if wanted 7; then
    echo "7. export to Hugging Face"
    scores=() pieces=()
    for set in $sets; do scores+=("$finetuned/decode/$set/score.json"); done
    [ "$labels" = letters ] || pieces=(--sentencepiece "$data/$labels.model")
    run_from "$finetuned/.huggingface" "$best" ccc-w2v export --to huggingface --overwrite --checkpoint "$best" \
        --out "$finetuned/huggingface" --manifest "$data/eval2000.tsv" --wer "${scores[@]}" "${pieces[@]}" \
        --training-data "Switchboard-1 Release 2 (LDC97S62)" --recipe "recipes/switchboard $finetuning"
fi
