r"""Search LM weight and word score on dev, into OUT/trials.tsv and OUT/trials.png; prints options for ccc-w2v decode.

    ccc-w2v tune --checkpoint finetuned/checkpoint_best.pt --manifest data/dev.tsv --out tuned \
        --beam 50 --lm words.arpa --lexicon words.txt

The network runs once: its log-probabilities stay in OUT/dev (or --cache, which several searches may share; a folder of
`ccc-w2v decode --logits` serves, too). An interrupted search resumes with the same command, and --trials may be raised
later.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ccc_w2v.cli.options import command_parser


def arguments() -> argparse.Namespace:
    from ccc_w2v.decode.options import add_beam_options, add_model_options
    from ccc_w2v.run_folder import add_overwrite_option

    parser = command_parser(__doc__)
    add_model_options(parser)
    parser.add_argument(
        "--manifest", required=True, help="manifest (.tsv) of dev, with its transcripts (.wrd) beside it"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for the trials")
    parser.add_argument("--cache", type=Path, help="folder of the greedy decoding and its log-probabilities")
    parser.add_argument(
        "--normalize", default="none", help="text normalisation of both sides: none, librispeech or hub5"
    )
    parser.add_argument("--trials", type=int, default=60, help="pairs of weights to try, including the default")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    add_overwrite_option(parser)
    beam = add_beam_options(parser)
    ranges: dict[str, Any] = {"nargs": 2, "type": float, "metavar": ("LOW", "HIGH")}
    beam.add_argument("--lm-weights", **ranges, default=(0, 5), help="range of the LM weight (default 0 5)")
    beam.add_argument("--word-scores", **ranges, default=(-4, 4), help="range of the word score (default -4 4)")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    from ccc_w2v.decode.beam import search_processes
    from ccc_w2v.decode.load import prepare_decoding
    from ccc_w2v.decode.transcribe import DecodingOptions, decoding_identity
    from ccc_w2v.errors import InputError
    from ccc_w2v.lm.tune import Ranges, best_of, cache_logits, claim_trials, dev_set, options_of, tune
    from ccc_w2v.lm.tune_plot import plot_trials

    if options.trials < 1:
        raise InputError("--trials: expected a positive number")
    prepared = prepare_decoding(options)
    model, manifest, settings = prepared.model, prepared.manifest, prepared.settings
    if settings is None:
        raise InputError("only beam search has weights to tune; give --beam, 50 for instance")
    cache, ranges = options.cache or options.out / "dev", Ranges(options.lm_weights, options.word_scores)
    dev = dev_set(model, manifest, cache / "logits", options.normalize, prepared.windows)
    identity = decoding_identity(model, prepared.files, manifest, settings)
    searched = {"windows": prepared.windows, "ranges": ranges, "seed": options.seed, "normalize": options.normalize}
    settings_of = {**identity, **{name: str(value) for name, value in searched.items()}}
    claim_trials(options.out, settings_of, [options.manifest], overwrite=options.overwrite)
    identity = decoding_identity(model, prepared.files, manifest)
    greedily = DecodingOptions(max_samples=prepared.max_samples, windows=prepared.windows, logits=True)
    cache_logits(cache, model, manifest, identity, greedily, overwrite=options.overwrite)
    table, processes = options.out / "trials.tsv", search_processes(options.search_processes, settings)
    trials = tune(dev, settings, ranges, table, trials=options.trials, seed=options.seed, processes=processes)
    plot_trials(options.out / "trials.png", trials, words_scored=settings.lexicon is not None)
    for name, trial in (("untuned", trials[0]), ("best", best_of(trials))):
        rate = f"WER {100 * trial.error_rate:.2f} % ({trial.counts.errors} errors in {trial.counts.words} words)"
        print(f"{name:8} LM weight {trial.lm_weight:g}, word score {trial.word_score:g}: {rate}")
    print(f"{table}: {len(trials)} trials, normalisation {options.normalize}; for ccc-w2v decode:")
    print(options_of(settings, best_of(trials)))


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error

    return exit_on_input_error(run)(options)
