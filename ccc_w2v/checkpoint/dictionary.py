"""The dictionary of a fine-tuned checkpoint: where it is held, in a file beside it, in plain form."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError


def load_dictionary(data: dict[str, list]) -> Any:
    """Build fairseq's Dictionary from ``ccc_dictionary``; raises InputError where its text form would lose a symbol."""
    from fairseq.data.dictionary import Dictionary

    special = Dictionary().symbols
    try:
        dictionary = Dictionary.load(io.StringIO(dictionary_text(data)))
    except (RuntimeError, ValueError):
        dictionary = None
    if dictionary is None or dictionary.symbols != data["symbols"]:
        raise InputError(
            f"the dictionary's symbols {data['symbols'][:8]} ... do not survive fairseq's dict.txt; expected {special} "
            "first, then no symbol twice"
        )
    return dictionary


def held_dictionary(state: dict[str, Any]) -> Any:
    """Return the fairseq Dictionary that a checkpoint holds, plain or as fairseq's trainer saves it; None for none.

    Raises InputError as load_dictionary does.
    """
    from fairseq.data.dictionary import Dictionary

    if "ccc_dictionary" in state:
        return load_dictionary(state["ccc_dictionary"])
    dictionary = (state.get("task_state") or {}).get("target_dictionary")
    return dictionary if isinstance(dictionary, Dictionary) else None


def read_dictionary(path: str | Path) -> Any:
    """Read a dict.<labels>.txt; InputError for one that is missing or holds other lines than symbol, count."""
    from fairseq.data.dictionary import Dictionary

    if not Path(path).is_file():
        raise InputError(f"{path}: no such dictionary")
    try:
        return Dictionary.load(str(path))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: expected lines of symbol, space, count ({error})") from error


def dictionary_data(state: dict[str, Any]) -> dict[str, list]:
    """Return the symbols and counts of a fine-tuned checkpoint's dictionary; raises InputError where it holds none."""
    if "ccc_dictionary" in state:
        return state["ccc_dictionary"]
    dictionary = held_dictionary(state)
    if dictionary is None:
        raise InputError(
            "the fine-tuned checkpoint holds no target dictionary; expected one saved by fairseq's trainer"
        )
    return {"symbols": [str(symbol) for symbol in dictionary.symbols], "count": [int(n) for n in dictionary.count]}


def dictionary_text(data: dict[str, list]) -> str:
    """Return the content of a dict.<labels>.txt, without fairseq's own symbols."""
    from fairseq.data.dictionary import Dictionary

    start = Dictionary().nspecial
    pairs = zip(data["symbols"][start:], data["count"][start:], strict=True)
    return "".join(f"{symbol} {count}\n" for symbol, count in pairs)
