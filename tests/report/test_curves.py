"""`ccc-w2v plot`: runs of any kind of log on one picture and one page."""

import json
import re

import pytest
from matplotlib import image

from ccc_w2v.report.curves import AXES, COLOURS, PANELS, draw, read_runs
from ccc_w2v.training.health.history import SIGNALS
from ccc_w2v.training.health.rules import load_rules
from tests.run_tool import one_line_error, run_with

RULES = load_rules()


def write_run(folder, *, shares=(0.8, 0.6, 0.3, 0.2, 0.15), hours=True):
    folder.mkdir(parents=True)
    rows = [
        {"update": 100 * number, "code_perplexity_share": share, "loss_contrastive": 6.0 - share, "gnorm": 2.0}
        | ({"audio_seconds": 3000.0 * number, "train_seconds": 60.0 * number} if hours else {})
        for number, share in enumerate(shares, start=1)
    ]
    (folder / SIGNALS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


@pytest.mark.parametrize(("axis", "end"), [("updates", 500), ("hours", 500 * 30 / 3600), ("seconds", 300)])
def test_curves_and_bands_are_where_they_belong(tmp_path, axis, end):
    runs = read_runs([write_run(tmp_path / "low"), write_run(tmp_path / "high", shares=(0.8,) * 5)], RULES)
    figure = draw(runs, RULES, axis)
    codes = panel(figure, "Codes in use (perplexity / codes)")
    assert [line.get_color() for line in codes.lines] == list(COLOURS[:2])
    assert codes.lines[0].get_xdata()[-1] == pytest.approx(end if axis != "hours" else 3000 * 5 / 3600)
    assert list(codes.lines[0].get_ydata()) == [0.8, 0.6, 0.3, 0.2, 0.15]
    heights = sorted(patch.get_y() + patch.get_height() for patch in codes.patches)
    assert heights == pytest.approx([0.25, 0.42])
    assert {axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()} == {
        shown.title for shown in PANELS if shown.signal in ("code_perplexity_share", "loss_contrastive", "gnorm")
    }
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:2] == ["low (collapsed)", "high (ok)"]
    assert len(texts) == 4


def test_bands_begin_where_their_rules_apply(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [{"update": 500 * number, "below_chance_contrastive": 0.5 * number} for number in range(5)]
    (folder / SIGNALS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = draw(read_runs([folder], RULES), RULES, "updates")
    begins = {patch.get_x() for patch in panel(figure, "Bits better than guessing").patches}
    assert begins == {1000}  # "at chance"; that for good begins at 5000


def test_the_command_writes_a_picture_and_a_page_that_needs_nothing_else(tmp_path, capsys):
    folders = [write_run(tmp_path / "a" / "pretrain"), write_run(tmp_path / "b" / "pretrain", shares=(0.8,) * 5)]
    assert run_with("plot", *folders, "--out", tmp_path / "curves") == 0
    assert "a/pretrain: health after update 500: collapsed" in capsys.readouterr().out
    assert image.imread(tmp_path / "curves.png").std() > 0.01
    page = (tmp_path / "curves.html").read_text()
    assert len(re.findall(r'src="data:image/svg', page)) == len(AXES)
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "raise criterion.diversity_weight" in page
    assert "b/pretrain" in page
    # Again, as the run goes on; another choice of runs is another output.
    assert run_with("plot", *folders, "--out", tmp_path / "curves", "--against", "hours") == 0
    capsys.readouterr()
    assert run_with("plot", folders[0], "--out", tmp_path / "curves") == 2
    assert "--overwrite" in one_line_error(capsys)


def test_what_cannot_be_plotted(tmp_path, capsys):
    folder = write_run(tmp_path / "old", hours=False)
    assert run_with("plot", folder, "--out", tmp_path / "curves", "--against", "hours") == 2
    assert "--against updates" in one_line_error(capsys)
    assert run_with("plot", folder, folder, "--out", tmp_path / "curves") == 2
    assert "named twice" in one_line_error(capsys)
    assert not list(tmp_path.glob("curves*"))
