"""Ids that a database could take for each other, or change."""

import json
from typing import cast

from hypothesis import strategies as st

from sigra_workers import Id
from sigra_workers_sqlalchemy.table import id_text

ODD: tuple[Id, ...] = (
    *(0, 1, -1, 2**31, 2**63, 2**64, 2**200, -(2**200), 10**254, -(10**253)),
    *("0", "1", "-1", "-0", "+1", "01", "1.0", "1e3", "1_0", "0x1", "\u0661", "1\u0662", "\uff11"),
    *(" 1", "1 ", "1\n"),
    *(str(2**63), str(2**200), str(10**254 // 100)),
    *("", " ", "  ", "\t", "\n", "\r\n", "a", "a ", "a  ", "a\t", "a\n", " a", "a\u00a0", "\u3000"),
    *("A", "á", "Á", "a\u0301", "å", "\u212b", "Å", "ß", "ss", "ẞ", "SS", "i", "I", "İ", "\u0131"),
    *("\ufb01", "fi"),
    *('"', '""', '"a"', '"a', 'a"', '"1"', '"\\"1\\""', "\\", "\\\\", "\\u0000", '"\\u0000"', "'", "''", "`"),
    *("\0", "a\0", "\0a", "a\0b", "\ud800", "\udfff", "a\ud800", '"\ud800', "\\ud800", '"\\ud800"'),
    *("\ud83d\ude00", "\ud83d\ude00 ", "\U0001f600", "\U0001f600 ", "\ude00\ud83d", "\\\ud83d\ude00 "),
    *("null", "None", "true", "%", "_", "a%", "a_", "NaN", "\x7f", "\x85", "\x1f", "\u2028", "\ufeff"),
    *("\uffff", "\U0010ffff", "a" * 255, "é" * 255, "\U0001f600" * 255, "'" * 255, "\\" * 255),
)

hard_text = st.text(
    st.sampled_from('01-" \\ud\t\0a\u00e9\ud83d\ude00\U0001f600') | st.characters(), max_size=6
)
"""Texts made of what has a meaning somewhere."""
any_id = st.integers() | hard_text | st.integers().map(str) | hard_text.map(json.dumps)


@st.composite
def two_ids(draw: st.DrawFn) -> tuple[Id, Id]:
    """Two ids that are easily taken for each other."""
    one = draw(any_id)
    near = [one, str(one), f"{one} ", f'"{one}"', json.dumps(one), cast("str", id_text(one)), f"{one}\0"]
    return one, draw(st.sampled_from(near) | any_id)
