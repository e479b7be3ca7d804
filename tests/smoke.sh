#!/usr/bin/env bash
# A smoke test of one Python: 5 updates of pre-training and of fine-tuning, decoding, export to plain fairseq and to a
# transformers folder, and the import of that folder again, on a corpus of synthetic sounds. Some minutes on one core.
#
#   tests/smoke.sh PYTHON [FOLDER]
#
# PYTHON is an interpreter with this package installed: .venv/bin/python. FOLDER is for what it writes; without one it
# is a temporary folder, which is removed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?usage: tests/smoke.sh PYTHON [FOLDER]}
bin=$(cd "$(dirname "$python")" && pwd)
out=${2:-}
if [ -z "$out" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
export PATH="$bin:$PATH" OMP_NUM_THREADS=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

"$bin/python" - "$out" <<'PYTHON'
import sys
from pathlib import Path

from tests.fake_corpora import write_corpus, write_labels

folder = Path(sys.argv[1])
write_corpus(folder, [16000 + 500 * number for number in range(8)], "pretrain")
write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
# The dictionary is the last one's, which has every letter.
for name, texts in {"dev": ["A CAT", "THE HAT"], "train": ["THE CAT", "A HAT", "SAT"] * 2}.items():
    write_labels(write_corpus(folder, [16000 + 500 * number for number in range(len(texts))], name), texts)
PYTHON

user_dir=$(python -m ccc_w2v)
train() {  # folder, name of a configuration, overrides
    local folder=$1 name=$2
    shift 2
    fairseq-hydra-train --config-dir "$PWD/tests/integration/config" --config-name "$name" common.user_dir="$user_dir" \
        hydra.run.dir="$folder" task.data="$out" dataset.max_tokens=64000 common.log_interval=1 \
        common.tensorboard_logdir=null optimization.max_update=5 dataset.num_workers=0 "$@" >"$folder.log" 2>&1 ||
        { tail -30 "$folder.log"; exit 1; }
}
echo "5 updates of pre-training"
train "$out/pretrain" pretrain model.conv_feature_layers="'[(16,10,5)] + [(16,3,2)]*4 + [(16,2,2)]*2'" \
    model.encoder_layers=2 model.encoder_embed_dim=32 model.encoder_ffn_embed_dim=64 model.latent_vars=8 \
    task.augment=none task.noise_manifest=null
echo "export to plain fairseq"
ccc-w2v export --to fairseq --checkpoint "$out/pretrain/checkpoints/checkpoint_last.pt" --out "$out/plain.pt"
echo "5 updates of fine-tuning"
train "$out/finetune" finetune model.w2v_path="$out/plain.pt" dataset.train_subset=train dataset.valid_subset=dev \
    checkpoint.no_last_checkpoints=false
tuned=$out/finetune/checkpoints/checkpoint_last.pt
echo "decode"
ccc-w2v decode --checkpoint "$tuned" --manifest "$out/dev.tsv" --out "$out/decoded"
[ "$(wc -l <"$out/decoded/hyp.trn")" = 2 ]
echo "export to transformers"
ccc-w2v export --to huggingface --checkpoint "$tuned" --manifest "$out/dev.tsv" --out "$out/huggingface"
echo "import it again"
ccc-w2v import "$out/huggingface" --manifest "$out/dev.tsv" --out "$out/again.pt"
ccc-w2v decode --checkpoint "$out/again.pt" --manifest "$out/dev.tsv" --out "$out/again"
cmp "$out/decoded/hyp.trn" "$out/again/hyp.trn"
echo "$("$python" --version): all of it works"
