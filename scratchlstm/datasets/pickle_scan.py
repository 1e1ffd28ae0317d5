"""Walk through a pickle without loading it, to see that loading it takes no more memory than its length explains.

`pickle` trusts some numbers in a file: the place in the memo that LONG_BINPUT and PUT name, up to which it makes room,
and the length of a BYTEARRAY8, which it makes before it reads.
"""

import pickle
import pickletools
import re

_WIDTHS = {  # of the length that stands before a string of bytes
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_SIZES = {op.code.encode("latin-1"): 0 if op.arg is None else op.arg.n for op in pickletools.opcodes}
_COUNTED = {code: _WIDTHS[size] for code, size in _SIZES.items() if size in _WIDTHS}
_PLAIN = {code: size for code, size in _SIZES.items() if size >= 0 and code not in (b".", b"r")}
_LINES = [code for code, size in _SIZES.items() if size == pickletools.UP_TO_NEWLINE and code not in b"cip"]


def _codes(size: int) -> bytes:
    return b"[" + b"".join(re.escape(code) for code, own in _PLAIN.items() if own == size) + b"]"


# any number of opcodes of fixed size, or of one line (two for GLOBAL and INST), the most frequent first
_RUN = re.compile(
    b"(?:"
    + b"|".join(_codes(size) + b".{%d}" % size for size in (1, 2, 0, 4, 8))
    + b"|[" + b"".join(_LINES) + b"][^\n]*\n|[ci][^\n]*\n[^\n]*\n)*+",
    re.DOTALL,
)  # fmt: skip


def require_modest(pickled: bytes) -> None:
    """Refuse a pickle that asks for more memory than its own length explains.

    Raises:
        pickle.UnpicklingError: it does, or it is cut short, or no pickle.
    """
    place, end = 0, len(pickled)
    while True:
        run = _RUN.match(pickled, place)
        assert run is not None  # of no opcode, if need be
        place = run.end()
        code = pickled[place : place + 1]
        if code == b".":
            return
        if code in _COUNTED:
            place += 1 + _COUNTED[code]
            place += int.from_bytes(pickled[place - _COUNTED[code] : place], "little")
        elif code == b"r":
            memo, place = int.from_bytes(pickled[place + 1 : place + 5], "little"), place + 5
        elif code == b"p":
            line = pickled[place + 1 : place + 22].split(b"\n")[0]
            memo, place = int(line), place + 2 + len(line)
        else:
            raise pickle.UnpicklingError("its pickle is cut short, or none")
        if place > end or (code in (b"r", b"p") and memo > end):
            raise pickle.UnpicklingError("its pickle asks for more memory than its length explains")
