"""An installed wheel does the whole road on a user's own folder, from recordings to WER; no checkout is in sight."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.corpora.own.test_prepare import write_recordings

ROOT = Path(__file__).parents[2]
SHORT = ["optimization.max_update=4", "dataset.validate_interval_updates=2", "checkpoint.save_interval_updates=2"]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command, in an environment that sees this one's packages but not this project."""
    folder = tmp_path_factory.mktemp("wheel")
    source, environment = folder / "source", folder / "environment"
    ignored = shutil.ignore_patterns(".*", "exp", "build", "*.egg-info", "__pycache__", "data")
    shutil.copytree(ROOT, source, ignore=ignored, symlinks=True)
    shutil.copytree(ROOT / "ccc_w2v" / "data", source / "ccc_w2v" / "data")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
    subprocess.run(build, check=True, cwd=folder)
    venv.create(environment)
    python = environment / "bin" / "python"
    (wheel,) = folder.glob("ccc_w2v-*.whl")
    install = [*pip, "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, cwd=folder)
    # Only now, so that pip has not seen this project's own installation. A folder named in a .pth file is not looked
    # through for further ones: an editable installation stays out of sight.
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    purelib = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    (Path(purelib) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(source)
    return environment / "bin" / "ccc-w2v"


def run(command: Path, *words: object, cwd: Path) -> str:
    """Run the installed command and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run([command, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_from_a_folder_of_recordings_to_wer(command: Path, tmp_path: Path) -> None:
    write_recordings(tmp_path / "recordings", speakers=5, each=4)
    assert run(command, "--version", cwd=tmp_path).startswith("ccc-w2v ")
    run(command, "manifest", "recordings", "--out", "data", "--dev", 0.2, "--test", 0.2, cwd=tmp_path)
    run(command, "check", "data/train.tsv", cwd=tmp_path)
    tiny = ["--gpus", 0, *SHORT, "dataset.max_tokens=40000"]
    run(command, "pretrain", "--data", "data", "--out", "pre", *tiny, "task.min_sample_size=4000", cwd=tmp_path)
    tuned = ["--from", "pre", *tiny, "dataset.validate_after_updates=0"]
    run(command, "finetune", "--data", "data", "--out", "tuned", *tuned, cwd=tmp_path)
    for folder in ("pre", "tuned"):
        assert json.loads((tmp_path / folder / "run.json").read_text())["recipe"] == "tiny"
        assert (tmp_path / folder / "checkpoints" / "checkpoint_last.pt").is_file()
    assert "'max_update': 4" in (tmp_path / "tuned" / "train.log").read_text()
    checkpoint = "tuned/checkpoints/checkpoint_best.pt"
    decoding = ["decode", "--checkpoint", checkpoint, "--manifest", "data/test.tsv", "--out", "decoded"]
    assert "4 utterances" in run(command, *decoding, cwd=tmp_path)
    scoring = ["score", "--ref", "decoded/ref.trn", "--hyp", "decoded/hyp.trn", "--json", "score.json"]
    assert "words (WER)" in run(command, *scoring, cwd=tmp_path)
    assert json.loads((tmp_path / "score.json").read_text())["utterances"] == 4
