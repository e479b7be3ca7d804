"""A selection as files: the manifest with its labels and weights, the numbers, the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccc_w2v.data.labels import all_labels, write_all_labels
from ccc_w2v.data.manifest import Manifest, write_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.files import whole, write_whole
from ccc_w2v.report.selection import selection_figure, selection_summary, selection_table
from ccc_w2v.run_folder import SETTINGS_KEY
from ccc_w2v.score.speakers import units
from ccc_w2v.selection.choose import Chosen, Wish
from ccc_w2v.selection.clusters import Clusters


def write_selection(
    out: Path,
    manifest: Manifest,
    wish: Wish,
    chosen: Chosen,
    clusters: Clusters | None,
    speakers: Sequence[str] | None,
    settings: Mapping[str, Any],
) -> str:
    """Write the chosen utterances with their labels and weights, selection.png and, last, selection.json.

    ``speakers`` says who speaks in each utterance of the manifest; None where that is not known. NAME.weight beside the
    manifest has the weight of each of its lines. Returns the table of before and after.
    """
    places = chosen.places
    _write_listing(out, manifest, chosen)
    seconds_N = np.array([entry.samples for entry in manifest.entries]) / wish.sample_rate
    labels_N = None if clusters is None else clusters.labels_N.numpy()
    before = selection_summary(seconds_N, speakers, labels_N)
    after = selection_summary(
        seconds_N[places],
        None if speakers is None else [speakers[place] for place in places],
        None if labels_N is None else labels_N[places],
    )
    chosen_N = (chosen.weights_N > 0).numpy()
    with whole(out / "selection.png", overwrite=True) as partial:
        selection_figure(seconds_N, chosen_N, labels_N, wish.by).savefig(partial, format="png", dpi=110)
    numbers: dict[str, Any] = {SETTINGS_KEY: dict(settings), "before": before, "chosen": after}
    if chosen.centre_loss_K is not None:
        numbers["lambda"], numbers["centre_losses"] = chosen.holder, chosen.centre_loss_K.tolist()
    write_whole(out / "selection.json", json.dumps(numbers, indent=1, default=str) + "\n")
    return selection_table(before, after)


def _write_listing(out: Path, manifest: Manifest, chosen: Chosen) -> None:
    path, places = out / Path(manifest.source).name, chosen.places
    labels = {kind: [lines[place] for place in places] for kind, lines in all_labels(manifest).items()}
    write_all_labels(manifest, path, labels)
    weights = chosen.weights_N[places].tolist()
    write_whole(path.with_suffix(".weight"), "".join(f"{weight:.6g}\n" for weight in weights))
    entries = [manifest.entries[place] for place in places]
    write_manifest(path, manifest.root, [(entry.path, entry.samples) for entry in entries])


def speakers_of(manifest: Manifest, source: str | None) -> list[str] | None:
    """Return who speaks in each utterance; None where no ``source`` says so and the folders do not tell."""
    ids = utterance_ids(manifest)
    if source is not None:
        return list(units(source, ids).names)
    try:
        return list(units(manifest.source, ids).names)
    except InputError:
        return None
