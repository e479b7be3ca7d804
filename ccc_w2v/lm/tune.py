"""Weights of a beam search: trials on dev, whose log-probabilities are computed once, proposed by optuna.

optuna's TPE sampler, because the error rate is a step function of the weights, without a gradient and with plateaus;
a grid of the same precision needs a hundred times the trials.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ccc_w2v.data.labels import read_references
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.randomness import seed_for
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.decode.beam import BeamSettings, Knowledge, load_knowledge, search_with
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.hypothesis import Hypothesis
from ccc_w2v.decode.log_probs import DecodingSegment, cut_segments
from ccc_w2v.decode.long_segments import joined
from ccc_w2v.decode.long_windows import Windows
from ccc_w2v.decode.search_pool import searched
from ccc_w2v.decode.transcribe import DecodingOptions, decode_into
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.run_folder import Output, claim, keep_record
from ccc_w2v.score.normalize import normalize
from ccc_w2v.score.wer import Counts, score

STEP = 0.01
# Random trials before the sampler looks at what they found.
RANDOM_TRIALS = 10
COLUMNS = ("trial", "lm_weight", "word_score", "word_error_rate", "substitutions", "deletions", "insertions", "words")


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest weights that are tried, in steps of STEP; the score of a word only with a lexicon."""

    lm_weight: tuple[float, float]
    word_score: tuple[float, float]


@dataclass(frozen=True)
class WeightTrial:
    """A pair of weights and the errors on dev with them."""

    lm_weight: float
    word_score: float
    counts: Counts

    @property
    def error_rate(self) -> float:
        """Errors over the references' words; 1.0 is 100 %."""
        return self.counts.errors / self.counts.words


def best_of(trials: list[WeightTrial]) -> WeightTrial:
    """Return the trial with fewest errors, the first of several."""
    return min(trials, key=lambda trial: trial.counts.errors)


def options_of(settings: BeamSettings, trial: WeightTrial) -> str:
    """Write a trial's search as the options of ccc-w2v decode."""
    options = {**asdict(settings), "nbest": None, "lm_weight": trial.lm_weight, "word_score": trial.word_score}
    if settings.lexicon is None:
        options["word_score"] = None
    named = {f"--{name.replace('_', '-')}": str(value) for name, value in options.items() if value is not None}
    return shlex.join(part for pair in named.items() for part in pair)


def cache_logits(
    folder: Path,
    model: CtcModel,
    manifest: Manifest,
    identity: dict[str, str],
    options: DecodingOptions,
    *,
    overwrite: bool = False,
) -> None:
    """Decode into a folder, with log-probabilities in folder/logits, unless the same is there already.

    Raises InputError as decode_into does.
    """
    marker = folder / "cached.json"
    content = json.dumps({**identity, "windows": str(options.windows)}, indent=2) + "\n"
    if marker.is_file() and marker.read_text(encoding="utf-8") == content:
        return
    marker.unlink(missing_ok=True)
    decode_into(folder, model, manifest, identity, options, overwrite=overwrite)
    write_whole(marker, content)


@dataclass(frozen=True)
class Dev:
    """A manifest with references, under text rules, whose log-probabilities are in a folder."""

    model: CtcModel
    manifest: Manifest
    logits_dir: Path
    references: Mapping[str, str]
    rules: str
    windows: Windows | None

    def segments(self) -> Iterator[tuple[DecodingSegment, torch.Tensor]]:
        """Read the log-probabilities, in the segments that ccc-w2v decode searches."""
        for utterance, entry in zip(utterance_ids(self.manifest), self.manifest.entries, strict=True):
            log_probs_TV = torch.from_numpy(np.load(self.logits_dir / f"{utterance}.npy"))
            yield from cut_segments(self.model, utterance, entry.samples, [log_probs_TV], self.windows)


def dev_set(model: CtcModel, manifest: Manifest, logits_dir: Path, rules: str, windows: Windows | None) -> Dev:
    """Return what trials are run on; raises InputError for a manifest without references and for unknown rules."""
    references = read_references(manifest)
    if references is None:
        path = Path(manifest.source).with_suffix(".wrd")
        raise InputError(f"{path}: no such references; weights are tuned on utterances whose words are known")
    texts = {
        utterance: normalize(text, rules) for utterance, text in zip(utterance_ids(manifest), references, strict=True)
    }
    return Dev(model, manifest, logits_dir, texts, rules, windows)


def run_trial(dev: Dev, knowledge: Knowledge, settings: BeamSettings, processes: int) -> WeightTrial:
    """Search all of dev with the settings' weights and count its errors."""
    hypotheses: dict[str, str] = {}
    segments: list[tuple[float, list[Hypothesis]]] = []
    with closing(searched(dev.segments(), search_with(knowledge, settings), processes)) as results:
        for segment, segment_hypotheses in results:
            segments.append((segment.start, segment_hypotheses))
            if segment.last:
                hypotheses[segment.utterance] = normalize(joined(segments)[0].text, dev.rules)
                segments.clear()
    return WeightTrial(settings.lm_weight, settings.word_score, score(dev.references, hypotheses).total)


def tune(
    dev: Dev,
    settings: BeamSettings,
    ranges: Ranges,
    table: Path,
    *,
    trials: int,
    seed: int = 0,
    processes: int = 0,
) -> list[WeightTrial]:
    """Run trials until ``table`` holds so many; the first is that of ``settings`` as they are, untuned.

    What ``table`` holds is not run again. Each proposal depends on the seed and the trials before it alone, so that a
    search that was stopped ends as an uninterrupted one does. Raises InputError for ranges that are none, without a
    language model, where optuna is missing, and as load_knowledge does.
    """
    if settings.lm is None:
        raise InputError("there are no weights to tune without a language model; give --lm")
    optuna = _optuna()
    study = optuna.create_study(direction="minimize")
    spaces = _spaces(optuna, ranges, settings)
    done = read_table(table) if table.is_file() else []
    knowledge = load_knowledge(dev.model, settings)
    with tqdm(total=trials, initial=min(len(done), trials), unit="trial", desc="tuning") as bar:
        for number in range(trials):
            if number < len(done):
                trial = done[number]
            else:
                weights = _proposed(optuna, study, spaces, seed, number) if number else {}
                at = BeamSettings(**{**asdict(settings), **weights})
                trial = run_trial(dev, knowledge, at, processes)
                done.append(trial)
                write_table(table, done)
                bar.update()
            _tell(optuna, study, spaces, trial)
            bar.set_postfix_str(f"best {100 * best_of(done[: number + 1]).error_rate:.2f} %", refresh=False)
    return done[:trials]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("tuning needs optuna: pip install 'ccc-w2v[lm]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _spaces(optuna: Any, ranges: Ranges, settings: BeamSettings) -> dict[str, Any]:
    bounds = {"lm_weight": ranges.lm_weight, **({"word_score": ranges.word_score} if settings.lexicon else {})}
    for name, (low, high) in bounds.items():
        if not low < high:
            raise InputError(f"{name.replace('_', ' ')}s from {low} to {high}; expected a lower and a higher number")
    return {
        name: optuna.distributions.FloatDistribution(round(low, 2), round(high, 2), step=STEP)
        for name, (low, high) in bounds.items()
    }


def _proposed(optuna: Any, study: Any, spaces: dict[str, Any], seed: int, number: int) -> dict[str, float]:
    """Return the weights of trial ``number``; the sampler is made anew, it remembers nothing but the study."""
    study.sampler = optuna.samplers.TPESampler(
        seed=seed_for(seed, "tune", number) % 2**32, n_startup_trials=RANDOM_TRIALS
    )
    asked = study.ask(spaces)
    # Only _tell adds to the study: this trial stays open and counts for nothing.
    return {name: round(value, 2) for name, value in asked.params.items()}


def _tell(optuna: Any, study: Any, spaces: dict[str, Any], trial: WeightTrial) -> None:
    values = {name: getattr(trial, name) for name in spaces}
    # The untuned weights may lie outside of what is searched.
    if all(space.low <= values[name] <= space.high for name, space in spaces.items()):
        study.add_trial(optuna.trial.create_trial(params=values, distributions=dict(spaces), value=trial.error_rate))


def claim_trials(folder: Path, settings: Mapping[str, str], inputs: Sequence[str | Path], *, overwrite: bool) -> None:
    """Make a folder that of these trials; raises InputError where trials of something else are, as run_folder.claim."""
    written = [folder / "trials.tsv", folder / "trials.png"]
    output = Output(folder, settings, folder / "tuning.json", written, inputs)
    if not claim(output, overwrite=overwrite):
        folder.mkdir(parents=True, exist_ok=True)
        keep_record(output)


def write_table(path: Path, trials: list[WeightTrial]) -> None:
    """Write a row for each trial in order, under the names of COLUMNS; rates in percent."""
    rows = ["\t".join(COLUMNS)]
    for number, trial in enumerate(trials):
        counts = trial.counts
        errors = (counts.substitutions, counts.deletions, counts.insertions, counts.words)
        rate = f"{100 * trial.error_rate:.3f}"
        rows.append("\t".join(map(str, (number, trial.lm_weight, trial.word_score, rate, *errors))))
    write_whole(path, "".join(f"{row}\n" for row in rows))


def read_table(path: Path) -> list[WeightTrial]:
    """Read what write_table wrote; raises InputError for another file."""
    try:
        head, *rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        if tuple(head) != COLUMNS:
            raise ValueError(f"columns {head}")
        return [WeightTrial(float(row[1]), float(row[2]), Counts(*map(int, row[4:8]))) for row in rows]
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path}: not a table of ccc-w2v tune ({error}); move it away to start over") from error
