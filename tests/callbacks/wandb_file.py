"""Reads a run's .wandb file: LevelDB's log format around protobuf records, after a header of seven bytes."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

BLOCK = 32768
HEADER = 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[object]:
    """The records of an offline run, in order."""
    from wandb.proto.wandb_internal_pb2 import Record

    for data in _payloads(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        yield record


def history(path: Path) -> dict[str, list]:
    """Key to the values that were logged under it."""
    values: dict[str, list] = {}
    for record in records(path):
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            values.setdefault(key, []).append(json.loads(item.value_json))
    return values


def config(path: Path) -> dict[str, object]:
    """The run's configuration, the last value of each key."""
    found = {}
    for record in records(path):
        for update in (*record.run.config.update, *record.config.update):
            found[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
    return found


def _payloads(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    position, parts = HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:  # a block's last bytes are padding
            position += BLOCK - position % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        position += HEADER
        parts = (b"" if kind in (WHOLE, FIRST) else parts) + content[position : position + length]
        position += length
        if kind in (WHOLE, LAST):
            yield parts
