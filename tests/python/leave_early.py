"""Clients that leave: a reader in the middle of a shard, and an uploader in the middle of one.

    leave_early.py SEGMENT

Puts a shard of its own on a segment, with pyarrow alone, and prints what the segment says it keeps
at each step, as one JSON object. Waits are for states, with a limit.
"""

import json
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from read_shards import connect, message, shard_ticket, status

DATA_SET = bytes(range(32))
ROWS, BATCH_ROWS, PIXELS = 24_000, 500, 3_072
LIMIT = 20


def schema():
    tensor = pa.fixed_shape_tensor(pa.uint8(), [PIXELS])
    storage = pa.list_(pa.field("item", pa.uint8(), nullable=False), PIXELS)
    metadata = {
        "ARROW:extension:name": tensor.extension_name,
        "ARROW:extension:metadata": json.dumps({"shape": [PIXELS]}),
    }
    return pa.schema([
        pa.field("row", pa.uint64(), nullable=False),
        pa.field("x", storage, nullable=False, metadata=metadata),
        pa.field("y", pa.int32(), nullable=False),
    ])


def batch(first):
    pixels = pa.array(np.zeros(BATCH_ROWS * PIXELS, np.uint8))
    columns = [
        pa.array(np.arange(first, first + BATCH_ROWS, dtype=np.uint64)),
        pa.FixedSizeListArray.from_arrays(pixels, type=schema().field("x").type),
        pa.array(np.zeros(BATCH_ROWS, np.int32)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema())


def begin_upload(client, shard):
    """A writer for a shard of ROWS rows; nothing is written yet."""
    what = message((1, DATA_SET), (2, shard), (3, 1))
    size = ROWS * (PIXELS + 100)
    header = message((1, 1), (2, what), (3, b"left"), (4, ROWS), (5, size))
    return client.do_put(flight.FlightDescriptor.for_command(header), schema())


def wait_until(client, predicate):
    """The first status that is so."""
    began_at = time.monotonic()
    while not predicate(seen := status(client)):
        assert time.monotonic() - began_at < LIMIT, f"the segment still says {seen}"
    return seen


def upload_and_vanish(location):
    """In a process of its own: half of a shard, and then not even a goodbye."""
    writer, _ = begin_upload(connect(location), 1)
    for first in range(0, ROWS // 2, BATCH_ROWS):
        writer.write_batch(batch(first))
    print("half", flush=True)
    time.sleep(LIMIT)


def main(location):
    client = connect(location)
    writer, _ = begin_upload(client, 0)
    for first in range(0, ROWS, BATCH_ROWS):
        writer.write_batch(batch(first))
    writer.close()
    whole = status(client)

    reader = client.do_get(flight.Ticket(shard_ticket(DATA_SET, 0, "train")))
    reader.read_chunk()
    list(client.do_action(flight.Action("drop-data-set", message((1, DATA_SET)))))
    dropped = status(client)
    reader.cancel()
    left = wait_until(client, lambda seen: seen["used_bytes"] == 0)

    uploader = subprocess.Popen(
        [sys.executable, __file__, location, "vanish"], stdout=subprocess.PIPE
    )
    assert uploader.stdout.readline().strip() == b"half"
    reserved = wait_until(client, lambda seen: seen["used_bytes"] > 0)
    uploader.kill()
    uploader.wait()
    vanished = wait_until(client, lambda seen: seen["used_bytes"] == 0)
    seen = {"whole": whole, "dropped": dropped, "left": left}
    seen |= {"reserved": reserved, "vanished": vanished}
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    if sys.argv[2:] == ["vanish"]:
        upload_and_vanish(sys.argv[1])
    else:
        main(sys.argv[1])
