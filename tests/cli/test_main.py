"""The command: its page, its subcommands without torch before their arguments are read, and one line on a mistake."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ccc_w2v
from ccc_w2v.cli import main as command
from ccc_w2v.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
# Modules of ccc_w2v/cli that several subcommands share.
SHARED = {"__init__", "main", "options", "training_options", "shares"}


def test_page_names_every_subcommand_and_the_road(capsys):
    assert main([]) == main(["--help"]) == 0
    page = capsys.readouterr().out
    assert all(f"  {words} " in page for words in COMMANDS)
    assert page.index("ccc-w2v decode") < page.index("ccc-w2v score")


def test_every_step_of_the_road_is_a_command():
    steps = [line.split("ccc-w2v ")[1].split()[0] for line in command.ROAD.splitlines() if "ccc-w2v " in line[10:]]
    assert steps
    assert set(steps) <= set(COMMANDS)


def test_every_module_is_a_subcommand_and_has_its_launcher():
    modules = {path.stem for path in (ROOT / "ccc_w2v" / "cli").glob("*.py")} - SHARED
    assert modules == {entry.module for entry in COMMANDS.values()}
    for launcher in (ROOT / "tools").glob("*.py"):
        module = launcher.read_text(encoding="utf-8").split('launcher("')[1].split('"')[0]
        assert module in modules


def test_help_of_every_subcommand_without_torch():
    """In one fresh interpreter, since this one has torch already."""
    code = """
import contextlib, io, sys
from ccc_w2v.cli.main import COMMANDS, main
for words in COMMANDS:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            code = main([*words.split(), "--help"])
        except SystemExit as leaving:
            code = leaving.code
    heavy = [name for name in ("torch", "fairseq", "transformers", "matplotlib") if name in sys.modules]
    assert code == 0 and f"ccc-w2v {words}" in out.getvalue() and not heavy, (words, code, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["decod"], "error: no command 'decod'; did you mean 'decode'?\n"),
        (["prepare", "librispech"], "error: no command 'prepare librispech'; did you mean 'prepare librispeech'?\n"),
        (["zzz"], "error: no command 'zzz'; `ccc-w2v --help` lists them\n"),
    ],
)
def test_unknown_command_is_one_line(words, expected, capsys):
    assert main(words) == 2
    assert capsys.readouterr() == ("", expected)


def test_first_word_of_several_commands_lists_them(capsys):
    assert main(["prepare", "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == sum(words.startswith("prepare ") for words in COMMANDS)


def test_a_users_mistake_is_one_line(capsys, tmp_path):
    assert main(["check", str(tmp_path / "none.tsv")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {tmp_path / 'none.tsv'}: no such manifest")
    assert err.count("\n") == 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ccc-w2v {ccc_w2v.__version__}\n"


def test_console_script_is_declared():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "ccc-w2v = ccc_w2v.cli.main:main" in setup["options.entry_points"]["console_scripts"]


def test_python_m_is_the_same_command_and_alone_names_the_plugin():
    alone = subprocess.run([sys.executable, "-m", "ccc_w2v"], cwd=ROOT, capture_output=True, text=True)
    assert Path(alone.stdout.strip()) == ROOT / "ccc_w2v"
    page = subprocess.run([sys.executable, "-m", "ccc_w2v", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert page.stdout.startswith("ccc-w2v: from audio")


OLD_SPELLINGS = {"--workers", "--source", "--server", "--upstream", "--run"}


@pytest.mark.parametrize("words", COMMANDS)
def test_options_of_all_commands_are_of_one_idiom(words, capsys):
    with contextlib.suppress(SystemExit):
        main([*words.split(), "--help"])
    page = capsys.readouterr().out
    assert "\nccc-w2v " not in page  # examples are indented
    shown = set(re.findall(r"(?<=[ \[])--[a-z][a-z0-9-]*", page))
    assert shown & OLD_SPELLINGS == set()
    if words == "export":
        assert "--data" not in shown  # a folder of manifests everywhere else


def test_an_old_spelling_still_works(tmp_path, capsys):
    for option in ("--manifest", None):
        mistake = main(["speed", *([option] if option else []), str(tmp_path / "no.tsv"), "--out", str(tmp_path / "o")])
        assert (mistake, "no.tsv: no such manifest" in capsys.readouterr().err) == (2, True)
    with pytest.raises(SystemExit) as stopped:
        main(["speed", "--out", str(tmp_path / "o")])
    assert stopped.value.code == 2
    assert "required: MANIFEST" in capsys.readouterr().err
    assert (
        main(["check", str(tmp_path / "no.tsv"), "--workers", "2"])
        == main(["check", str(tmp_path / "no.tsv"), "--jobs", "2"])
        == 2
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["de"], {"decode"}),
        (["prepare", "li"], {"librispeech"}),
        (["speed", "--fa"], {"--factors"}),
        (["prepare", "musan", "--fr"], {"--from"}),
        (["decode", "da"], set()),
    ],
)
def test_bash_completes_commands_and_options(line, expected, capsys, tmp_path):
    assert main(["completion"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    call = tmp_path / "ccc-w2v"
    call.write_text(f'#!/bin/sh\nexec {sys.executable} -m ccc_w2v "$@"\n')
    call.chmod(0o755)
    words = " ".join(["ccc-w2v", *line])
    code = f'. {script}; COMP_WORDS=({words}); COMP_CWORD={len(line)}; _ccc_w2v; echo "${{COMPREPLY[*]}}"'
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
