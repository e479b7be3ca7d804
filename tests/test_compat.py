import os
import pickle

import pytest

from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.errors import InputError


class RunsCode:
    def __reduce__(self):
        return os.getpid, ()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_checkpoint_that_pickles_code_is_refused_in_one_line_without_advice_to_turn_safety_off(
    tmp_path, protocol, recwarn
):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"model": RunsCode(), "cfg": {}}, protocol=protocol))
    with pytest.raises(InputError, match="not a readable fairseq checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not recwarn.list


def test_a_missing_or_truncated_checkpoint_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match="not a readable fairseq checkpoint") as caught:
        load_checkpoint(tmp_path / "half.pt")
    assert "\n" not in str(caught.value)
