"""Compare ways of pre-training on the corpus small: arms and seeds side by side, results.json, tables and plots.

    recipes/small/compare.sh --scale small --seeds 3
    recipes/small/compare.sh --scale small --arms none,wav2vec2,ccc_scale --seeds 3 --jobs 2
    recipes/small/compare.sh --render

The arms share data order, initial weights and everything but what recipes/small/config/arms.yaml names; lengths and
sizes are in scales.yaml beside it. Everything is made in OUT (default exp/small/SCALE) and kept: a comparison that was
stopped or killed continues with the same command, and arms and seeds may be added. --finished runs nothing, and makes
the results of what has ended here or is kept among --transcripts, whichever arms have which seeds. --render writes
RESULTS.md's tables and plots from results.json, and does nothing else.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.shared_files import shared_folder

if TYPE_CHECKING:
    from ccc_w2v.comparison.settings import SearchedLanguageModel


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--arms", default="", help="names of arms.yaml, comma-separated (default: all that can run)")
    add(
        "--seeds",
        default="3",
        help="how many, 1 to N; or the seeds themselves with commas: 4,5,6, and 4, for one (default 3)",
    )
    add(
        "--scale",
        default="small",
        help="lengths and sizes, a name of scales.yaml: tiny, small, medium, short, long, gpu (default small)",
    )
    add(
        "--labels",
        default="10m,1h",
        help="labelled subsets to fine-tune on (default 10m,1h); 10m_NAME reads train_10m_NAME.tsv of --data",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where networks run (default cpu)")
    add("--jobs", type=int, help="arms side by side (default: as many as cores have room for; 1 with cuda)")
    add(
        "--processes",
        type=int,
        default=1,
        help="ranks of each pre-training, on a core or a GPU each, which share an update's speech (default 1)",
    )
    add("--data", type=Path, help="folder of ccc-w2v prepare small (default exp/small/data, prepared if need be)")
    add("--from", dest="source", help="folder of unpacked repositories to prepare the data from; else they are fetched")
    add("--out", type=Path, help="folder for everything that is made (default exp/small/SCALE)")
    add(
        "--transcripts",
        type=Path,
        help="folder that keeps the transcripts of finished arms and seeds, an archive each; what it has is taken from "
        "it and not run again",
    )
    add("--results", type=Path, help="file for the results (default recipes/small/results.json)")
    add(
        "--lm",
        help="n-gram model of words (ARPA, KenLM binary) to decode with too, or none (default: the recipe's words.arpa "
        "where flashlight-text is installed)",
    )
    add("--lexicon", help="words of the n-gram model, one a line")
    add("--recipe", type=Path, help="folder of config/ and conditions/ (default recipes/small)")
    add("--finished", action="store_true", help="results of the arms and seeds that have ended, and nothing is run")
    add("--render", action="store_true", help="write RESULTS.md beside the results, from them alone")
    add_old_spelling(parser, "--source", "source")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    recipe = (options.recipe or shared_folder("recipes/small")).resolve()
    results = options.results or recipe / "results.json"
    # Before fairseq, which would let matplotlib tell where it keeps its fonts.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    from ccc_w2v.comparison.render import render_results

    if not options.render:
        compare(options, recipe, results)
    for path in render_results(results, results.with_name("RESULTS.md")):
        print(path)


def compare(options: argparse.Namespace, recipe: Path, results: Path) -> None:
    from torch.cuda import device_count

    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.comparison.results import write_results
    from ccc_w2v.comparison.run import run_comparison, take_finished
    from ccc_w2v.comparison.settings import LABELS, Settings, check_processes, choose_arms, load_scale, size_of

    labels = split(options.labels)
    if unknown := [name for name in labels if size_of(name) not in LABELS]:
        raise InputError(
            f"--labels: unknown subset '{unknown[0]}'; available: {', '.join(LABELS)}, and 10m_NAME or "
            "1h_NAME for a train_10m_NAME.tsv of your own in --data"
        )
    out = (options.out or Path("exp/small") / options.scale).resolve()
    settings = Settings(
        recipe=recipe,
        data=(options.data or Path("exp/small/data")).resolve(),
        out=out,
        arms=choose_arms(recipe, split(options.arms)),
        scale=load_scale(recipe, options.scale),
        seeds=read_seeds(options.seeds),
        labels=tuple(labels),
        device=options.device,
        language_model=language_model(options, recipe),
        kept=options.transcripts,
        processes=options.processes,
    )
    if not options.finished:
        refuse_missing_gpu(options.device)
        check_processes(settings, device_count())
    if options.data is None or options.source:
        from ccc_w2v.corpora.small.prepare import prepare

        prepare(settings.data, source=options.source)
    if options.finished:
        take_finished(settings)
        write_results(settings, results)
        return
    side_by_side = 1 if options.device == "cuda" else max(1, len(os.sched_getaffinity(0)) // options.processes)
    jobs = side_by_side if options.jobs is None else options.jobs
    run_comparison(settings, jobs, lambda: write_results(settings, results))


def split(text: str) -> list[str]:
    return [part for part in text.replace(" ", "").split(",") if part]


def read_seeds(text: str) -> tuple[int, ...]:
    """Read a count, or seeds between commas."""
    parts = split(text)
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts) or len(set(parts)) < len(parts):
        raise InputError(f"--seeds {text}: expected how many, or different positive seeds between commas")
    return tuple(map(int, parts)) if len(parts) > 1 or text.endswith(",") else tuple(range(1, int(parts[0]) + 1))


def language_model(options: argparse.Namespace, recipe: Path) -> SearchedLanguageModel | None:
    """Return the n-gram model to decode with too: the one named, else the recipe's own where it can be searched."""
    from ccc_w2v.comparison.settings import SearchedLanguageModel
    from ccc_w2v.compat import flashlight_text

    if options.lm == "none":
        return None
    if (options.lm is None) != (options.lexicon is None):
        raise InputError("--lm and --lexicon: expected both or neither")
    model, lexicon = Path(options.lm or recipe / "words.arpa"), Path(options.lexicon or recipe / "words.txt")
    if options.lm is None and not model.is_file():
        return None
    for path in (model, lexicon):
        if not path.is_file():
            raise InputError(f"{path}: no such file; write an n-gram model with ccc-w2v train-lm")
    try:
        flashlight_text()
    except InputError as error:
        if options.lm is not None:
            raise
        print(f"no decoding with a language model: {error}", flush=True)
        return None
    return SearchedLanguageModel(str(model.resolve()), str(lexicon.resolve()))
