"""Reads the offline file of a W&B run back: what `wandb sync` would send.

The package's own Python reader is gone since its syncing moved into a compiled program (0.31 has none), so the framing
is read here, checksums included; the messages inside are decoded by the package's own protocol buffers.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

# LevelDB's log format: blocks of 32 KiB; a chunk is CRC-32 (4 bytes), length (2) and type (1), then its data.
BLOCK, CHUNK_HEADER, FILE_HEADER = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """What a run's file holds.

    Attributes:
        ids: The ids of the runs it opens.
        config: The run's config.
        summary: The last value of every summary key, nested keys joined by ".".
        history: One dictionary per logged row.
        metrics: What was defined of metrics, by name.
        artifacts: Names of the artifacts.
        kinds: Kinds of all records, in order.
    """

    ids: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


def records(file: Path) -> Iterator[Any]:
    """The protocol buffers of a .wandb file."""
    for payload in payloads(file.read_bytes()):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # made when it is imported
        record.ParseFromString(payload)
        yield record


def payloads(data: bytes) -> Iterator[bytes]:
    """The records of a log, put together again where a block's end cut them."""
    assert data[:4] == b":W&B"
    place, parts = FILE_HEADER, b""
    while place + CHUNK_HEADER <= len(data):
        if BLOCK - place % BLOCK < CHUNK_HEADER:  # too small for a header: zeros
            place += BLOCK - place % BLOCK
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, place)
        body = data[place + CHUNK_HEADER : place + CHUNK_HEADER + length]
        assert len(body) == length
        assert zlib.crc32(bytes([kind]) + body) == checksum, f"damaged at byte {place}"
        parts = parts + body if kind in (MIDDLE, LAST) else body
        if kind in (FULL, LAST):
            yield parts
        place += CHUNK_HEADER + length


def read_offline_run(folder: Path) -> OfflineRun:
    """The one offline run of a run folder.

    Args:
        folder: runs/<experiment>/<timestamp>.
    """
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    run = OfflineRun()
    for record in records(file):
        kind = record.WhichOneof("record_type")
        run.kinds.append(kind)
        if kind == "run":
            run.ids.append(record.run.run_id)
            _update(run.config, record.run.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            run.history.append(row)
        elif kind == "metric":
            run.metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "artifact":
            run.artifacts.append(record.artifact.name)
    return run


def _update(into: dict[str, Any], items: Any) -> None:
    for item in items:
        into[".".join(item.nested_key) or item.key] = json.loads(item.value_json)
