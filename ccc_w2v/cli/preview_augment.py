"""Hear and see an augmentation pipeline: augmented WAVs, the drawn parameters as JSON, spectrograms side by side.

ccc-w2v preview --pipeline paper --audio speech.wav --noise-manifest noise.tsv --out preview
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from ccc_w2v.cli.options import command_parser


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--pipeline", required=True, help="a preset's name or a YAML file")
    parser.add_argument("--audio", required=True, help="one mono recording")
    for kind in ("noise", "music", "babble", "rir"):
        parser.add_argument(f"--{kind}-manifest", help=f"manifest (.tsv) for the transforms that need one of {kind}")
    parser.add_argument("--sample-rate", type=int, default=16000, help="sample rate of recording and noise in Hz")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to, new or empty")
    parser.add_argument("--count", type=int, default=4, help="number of augmentations to draw")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    return parser.parse_args()


def preview(options: argparse.Namespace) -> None:
    import soundfile

    from ccc_w2v.augment.pipeline import load_pipeline, manifest_settings
    from ccc_w2v.augment.preview import spectrogram_figure
    from ccc_w2v.data.audio import read_audio
    from ccc_w2v.data.randomness import generator_for
    from ccc_w2v.errors import InputError
    from ccc_w2v.files import appearing

    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise InputError(f"{options.out}: exists and is not an empty folder; name another one or remove it")
    if options.count < 1:
        raise InputError(f"--count: expected at least 1, found {options.count}")
    manifests = {name: getattr(options, name) for name in manifest_settings()}
    pipeline = load_pipeline(options.pipeline, options.sample_rate, **manifests)
    wave_S = read_audio(options.audio, options.sample_rate)
    draws = [pipeline.draw(generator_for(options.seed, "preview", n), len(wave_S)) for n in range(options.count)]
    augmented_BS = pipeline.apply(wave_S.expand(options.count, -1), draws)
    waves = {"original": wave_S, **{f"augmented_{n}": one_S for n, one_S in enumerate(augmented_BS, start=1)}}
    names = [part.transform.name for part in pipeline.transforms]

    with appearing(options.out) as partial:
        partial.mkdir()
        for name, one_S in waves.items():
            # Augmentation may exceed full scale, which floats hold and 16 bits would clip.
            soundfile.write(partial / f"{name}.wav", one_S.numpy(), options.sample_rate, subtype="FLOAT")
        shown = {f"augmented_{n}": list(zip(names, drawn, strict=True)) for n, drawn in enumerate(draws, start=1)}
        (partial / "parameters.json").write_text(json.dumps(shown, indent=2) + "\n")
        spectrogram_figure(waves, options.sample_rate).savefig(partial / "spectrograms.png", dpi=110)
    print(f"{pipeline}\n{options.count} augmentations, parameters.json and spectrograms.png in {options.out}")


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import InputError, exit_on_input_error

    @exit_on_input_error
    def run() -> None:
        try:
            preview(options)
        except InputError as error:
            # The pipeline names a training's settings; here they are options.
            raise InputError(re.sub(r"task\.(\w+)_manifest", r"--\1-manifest", str(error))) from error

    return run()
