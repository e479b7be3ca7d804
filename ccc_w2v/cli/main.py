"""The command `ccc-w2v`: one page that shows the road from audio to WER, and the module of each subcommand."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

import ccc_w2v
from ccc_w2v.errors import exit_on_input_error


@dataclass(frozen=True)
class Command:
    """A subcommand: its words, its module in ccc_w2v.cli, and a line of help."""

    words: str
    module: str
    help: str


ROAD = """\
ccc-w2v: from audio to word error rate with ccc-wav2vec 2.0

  your recordings     ccc-w2v manifest recordings --out data --transcripts transcripts.tsv
  hours-long files    ccc-w2v segment podcasts --out data
  are they sound?     ccc-w2v check data/train.tsv
  which hours?        ccc-w2v select --manifest data/train.tsv --hours 100 --by longest --out chosen
  pre-train           ccc-w2v pretrain --data data --out exp/pretrain
  fine-tune           ccc-w2v finetune --data data --from exp/pretrain --out exp/finetune
  transcribe          ccc-w2v decode --checkpoint exp/finetune/checkpoints/checkpoint_best.pt \\
                        --manifest data/test.tsv --out exp/test
  word error rate     ccc-w2v score --ref exp/test/ref.trn --hyp exp/test/hyp.trn
  to transformers     ccc-w2v export --to huggingface --checkpoint exp/finetune/checkpoints/checkpoint_best.pt \\
                        --manifest data/test.tsv --out my-model
"""
GROUPS = {
    "Data": [
        Command("prepare librispeech", "prepare_librispeech", "fetch or take LibriSpeech: manifests, labels, splits"),
        Command("prepare switchboard", "prepare_switchboard", "Switchboard, Fisher and Hub5 from LDC's discs"),
        Command("prepare small", "prepare_small", "a small corpus that any machine can fetch"),
        Command("prepare prompts", "prepare_prompts", "the demo's voice prompts"),
        Command("prepare musan", "prepare_musan", "noises, music and speech for the augmentation"),
        Command("prepare rirs", "prepare_rirs", "impulse responses of rooms for the augmentation"),
        Command("prepare conditions", "prepare_conditions", "a test set under fixed noise, rooms, telephone"),
        Command("manifest", "manifest", "a folder of your own recordings: manifests, splits, labels"),
        Command("segment", "segment", "hours-long recordings: segments at their pauses, as offsets"),
        Command("merge", "merge", "put the shards of a long command (--shard i/n) together"),
        Command("check", "check_manifest", "read every recording of a manifest and name what is wrong"),
        Command("select", "select_speech", "choose hours of a manifest: by sensitivity, diverse, longest, random"),
        Command("speed", "perturb_speed", "copies of a corpus at other speeds"),
        Command("pack", "pack", "a corpus in a few uncompressed zips, or in tar shards for streaming"),
        Command("sentencepiece", "train_sentencepiece", "train pieces and write them as labels"),
        Command("preview", "preview_augment", "hear and see what a pipeline makes of a recording"),
    ],
    "Training": [
        Command("plan", "plan", "spread a recipe over GPUs: batch, time, memory, disk"),
        Command("plan-data", "plan_data", "what a long pre-training asks of disk, cores, memory and money"),
        Command("warm-start", "warm_start", "fit the feature encoder to spectra before a short pre-training"),
        Command("pretrain", "pretrain", "train wav2vec 2.0 with two views on audio"),
        Command("finetune", "finetune", "train a pre-trained model to transcribe"),
        Command("resume", "resume", "continue a run"),
        Command("follow", "follow", "run a training with a progress bar"),
        Command("health", "health", "is a pre-training healthy, and what to change if not"),
        Command("plot", "plot", "curves of pre-trainings with the bands of health, one picture and one page"),
        Command("probe-watch", "probe_watch", "probe each new checkpoint while a run trains"),
        Command("summarize", "summarize", "what a demo run came to"),
    ],
    "Decoding and scoring": [
        Command("decode", "decode", "transcribe a manifest, greedily or with a language model"),
        Command("train-lm", "train_lm", "train an n-gram language model"),
        Command("rescore", "rescore", "rank n-best lists with a neural language model"),
        Command("tune", "tune_lm", "search LM weight and word score on dev"),
        Command("score", "score", "error rates with intervals, by speaker, condition and length"),
        Command("compare", "compare", "which differences between systems hold"),
        Command("small", "compare_small", "does pre-training help? arms at equal compute, tables, plots"),
        Command("report", "report", "one HTML page on one or more systems"),
    ],
    "Models": [
        Command("export", "export", "to fairseq without this plugin, to transformers, to ONNX"),
        Command("import", "import_checkpoint", "a wav2vec 2.0 from elsewhere, for pre-training or fine-tuning"),
        Command("features", "extract_features", "hidden states and codebook indices of recordings"),
        Command("probe", "probe", "what frozen features know: a CTC probe"),
        Command("codes", "codes", "hear what the codes stand for, and which lead to which"),
        Command("align", "align", "when each letter of a transcript is said, by a fine-tuned model"),
        Command("quality", "quality", "what layers and codes know of phones: ABX, purity, mutual information"),
        Command("benchmark", "benchmark", "measure speed and memory"),
        Command("gpu-report", "gpu_report", "check and measure everything on a GPU, in 20 minutes"),
        Command("completion", "completion", "complete commands and options in bash and zsh"),
    ],
}
COMMANDS = {command.words: command for commands in GROUPS.values() for command in commands}


def page() -> str:
    """Return what `ccc-w2v --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [ROAD]
    for title, commands in GROUPS.items():
        lines += [title, *(f"  {command.words:<{width}}  {command.help}" for command in commands), ""]
    return "\n".join([*lines, "`ccc-w2v COMMAND --help` shows a command's options and examples."])


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 0, or 2 after one line on what is wrong."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(page())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"ccc-w2v {ccc_w2v.__version__}")
        return 0
    for count in (2, 1):
        command = COMMANDS.get(" ".join(words[:count]))
        if command:
            return run(command.module, f"ccc-w2v {command.words}", words[count:])
    below = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if below and words[1:] in ([], ["-h"], ["--help"]):
        print("\n".join(f"ccc-w2v {name:<{max(map(len, below))}}  {COMMANDS[name].help}" for name in below))
        return 0 if words[1:] else 2
    wanted = " ".join(words[: 2 if below else 1])
    close = difflib.get_close_matches(wanted, COMMANDS, n=1)
    remedy = f"did you mean '{close[0]}'?" if close else "`ccc-w2v --help` lists them"
    print(f"error: no command '{wanted}'; {remedy}", file=sys.stderr)
    return 2


def run(module: str, program: str, arguments: list[str]) -> int:
    """Run a subcommand's module under a program name."""
    called = sys.argv
    sys.argv = [program, *arguments]

    def import_and_run() -> int | None:
        return importlib.import_module(f"ccc_w2v.cli.{module}").main()

    try:
        return exit_on_input_error(import_and_run)()
    finally:
        sys.argv = called


def launcher(module: str) -> Callable[[], int]:
    """Return the main() of a file in tools/ that does what a subcommand does."""

    def launch() -> int:
        return run(module, sys.argv[0], sys.argv[1:])

    return launch
