"""An installed wheel does the whole road on a user's own folder, from recordings to WER; no checkout is in sight."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.corpora.own.test_prepare import write_recordings

ROOT = Path(__file__).parents[2]
SHORT = (
    *("--gpus", 0, "dataset.max_tokens=40000", "optimization.max_update=4"),
    *("dataset.validate_interval_updates=2", "checkpoint.save_interval_updates=2"),
)
SHORTER = {
    "pretrain": (*SHORT, "task.min_sample_size=4000"),
    "finetune": (*SHORT, "dataset.validate_after_updates=0"),
}


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
    # Whoever names a checkout in PYTHONPATH has an installation there that pip would be content with.
    subprocess.run(install, check=True, cwd=folder, env=without_checkout())
    # Only now, so that pip has not seen this project's own installation. A folder named in a .pth file is not looked
    # through for further ones: an editable installation stays out of sight.
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    purelib = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    (Path(purelib) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(source)
    return environment / "bin" / "ccc-w2v"


def without_checkout() -> dict[str, str]:
    """Return the environment without PYTHONPATH."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def run(command: Path, *words: object, cwd: Path) -> str:
    """Run the installed command and return what it prints."""
    environment = {**without_checkout(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([command, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def six_commands() -> list[list[str]]:
    """Return the commands that the README shows for a folder of recordings, as words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("<!-- six commands")[2].partition("```bash\n")[2].partition("```")[0]
    return [shlex.split(line) for line in block.splitlines()]


def test_the_readmes_six_commands_go_from_a_folder_of_recordings_to_wer(command: Path, tmp_path: Path) -> None:
    write_recordings(tmp_path / "recordings", speakers=10, per_speaker=2)
    assert run(command, "--version", cwd=tmp_path).startswith("ccc-w2v ")
    printed = {}
    for program, subcommand, *words in six_commands():
        assert program == "ccc-w2v"
        # As written, but for the length of the trainings and the size of what they train on.
        printed[subcommand] = run(command, subcommand, *words, *SHORTER.get(subcommand, ()), cwd=tmp_path)
    assert list(printed) == ["manifest", "check", "pretrain", "finetune", "decode", "score"]
    for folder in ("pretrain", "finetune"):
        assert json.loads((tmp_path / "exp" / folder / "command.json").read_text())["recipe"] == "tiny"
        assert (tmp_path / "exp" / folder / "checkpoints" / "checkpoint_last.pt").is_file()
        assert "'max_update': 4" in (tmp_path / "exp" / folder / "train.log").read_text()
    # The training's own record stands beside the command's, so that the run can be resumed.
    assert json.loads((tmp_path / "exp" / "pretrain" / "run.json").read_text())["starts"]
    (start,) = json.loads((tmp_path / "exp" / "finetune" / "run.json").read_text())["starts"]
    assert "task audio_finetuning, criterion ctc" in start["plan"]
    assert {"train.tsv", "train.ltr", "dict.ltr.txt", "pretrained.pt"} <= {
        Path(name).name for name in start["manifests"]
    }
    assert "w2v_path" in (tmp_path / "exp" / "finetune" / "config.yaml").read_text()
    run(command, "resume", "exp/pretrain", cwd=tmp_path)
    assert "this run is finished" in (tmp_path / "exp" / "pretrain" / "train.log").read_text()
    assert "2 utterances" in printed["decode"]
    assert "words (WER)" in printed["score"]
