"""Who may replace an output: its own command with the same settings, and --overwrite."""

import json

import pytest

from ccc_w2v.errors import InputError
from ccc_w2v.run_folder import Output, beside, check, claim, file_output, keep_record, made_from, recorded_settings


def output(tmp_path, **settings):
    out = tmp_path / "out.bin"
    return Output(out, settings, beside(out), [out], [tmp_path / "in.bin"])


def test_the_same_settings_find_their_own_output(tmp_path):
    (tmp_path / "in.bin").write_bytes(b"in")
    first = output(tmp_path, beam=50, lm=None, ranges=(0.0, 5.0))
    assert claim(first) is False
    keep_record(first)
    # Begun, and then finished: the order of settings says nothing, values are compared as JSON writes them.
    assert claim(output(tmp_path, ranges=[0.0, 5.0], lm=None, beam=50)) is True
    (tmp_path / "out.bin").write_bytes(b"out")
    assert claim(first) is True
    assert (tmp_path / "out.bin").read_bytes() == b"out"


def test_other_settings_are_refused_by_name_and_replaced_when_asked(tmp_path):
    first, other = output(tmp_path, beam=50, lm="a"), output(tmp_path, beam=10, lexicon="b")
    keep_record(first)
    first.name.write_bytes(b"out")
    with pytest.raises(InputError, match=r"out\.bin: exists already, made with other settings \(beam, lexicon, lm\)"):
        claim(other)
    assert first.name.read_bytes() == b"out"
    assert check(other, overwrite=True) is False
    assert first.name.exists()
    assert claim(other, overwrite=True) is False
    assert not list(tmp_path.iterdir())


def test_what_no_record_explains_is_refused(tmp_path):
    wanted = output(tmp_path, beam=50)
    wanted.name.write_bytes(b"other work")
    with pytest.raises(InputError, match="no record says that this command wrote it"):
        claim(wanted)
    wanted.record.write_text("{damaged")
    with pytest.raises(InputError, match="no record says"):
        claim(wanted)
    # A folder of somebody else is not removed even when asked.
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("x")
    folder = Output(tmp_path / "f.tsv", {}, tmp_path / "f.json", [tmp_path / "folder"])
    with pytest.raises(InputError, match="move it away by hand"):
        claim(folder, overwrite=True)
    assert (tmp_path / "folder" / "precious").read_text() == "x"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_read_is_refused_under_any_name(tmp_path, overwrite):
    (tmp_path / "in.bin").write_bytes(b"in")
    (tmp_path / "out.bin").symlink_to(tmp_path / "in.bin")
    (tmp_path / "hard").hardlink_to(tmp_path / "in.bin")
    for wanted in (
        output(tmp_path),
        Output(tmp_path / "hard", {}, beside(tmp_path / "hard"), [tmp_path / "hard"], [tmp_path / "in.bin"]),
    ):
        with pytest.raises(InputError, match="is what this command reads"):
            claim(wanted, overwrite=overwrite)
    assert (tmp_path / "in.bin").read_bytes() == b"in"


def test_what_was_made_from_a_replaced_file_goes_with_it(tmp_path):
    hypotheses = tmp_path / "hyp.trn"
    hypotheses.write_text("A (1)\n")
    settings = file_output(tmp_path / "score.json", {"hyp": hypotheses, "seed": 0}, []).settings
    (tmp_path / "score.json").write_text(json.dumps({"wer": 0.1, "settings": settings}))
    (tmp_path / "page.html").write_text(
        f'<meta name="settings" content="{{&#34;a&#34;: &#34;{settings["hyp"]}&#34;}}">'
    )
    (tmp_path / "own.json").write_text('{"notes": "mine"}')
    assert recorded_settings(tmp_path / "page.html") == {"a": settings["hyp"]}
    assert [path.name for path in made_from([hypotheses])] == ["page.html", "score.json"]
    decoding = Output(tmp_path, {"beam": 1}, tmp_path / "decoding.json", [hypotheses])
    (tmp_path / "decoding.json").write_text('{"beam": 2}')
    claim(decoding, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["own.json"]
