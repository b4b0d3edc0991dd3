"""Streams rows to a supervisor and reads a model's predictions, with pyarrow and nothing of ours.

    predict_rows.py SUPERVISOR RUN ROWS PREDICTIONS

ROWS is a Parquet file of new rows, PREDICTIONS what `arrowhop predict --to` wrote for them. Prints
what it saw as one JSON object. Waits are for states, with a limit.
"""

import json
import sys
import threading
import time

import pyarrow as pa
import pyarrow.compute
import pyarrow.flight as flight
import pyarrow.parquet as parquet

from read_shards import connect, refusal

LIMIT = 30


def exchange(client, descriptor, batches):
    """Sends batches from a thread of its own, and reads all that comes back."""
    writer, reader = client.do_exchange(descriptor)

    def send():
        try:
            writer.begin(batches[0].schema)
            for batch in batches:
                writer.write_batch(batch)
            writer.done_writing()
        except pa.ArrowException:
            # Why, the reader is told.
            pass

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return reader.read_all()
    finally:
        sender.join()
        writer.close()


def largest_difference(found, wanted):
    """Of the probabilities; all other columns are equal."""
    assert found.schema.equals(wanted.schema), f"{found.schema} instead of {wanted.schema}"
    assert found.drop_columns("probability").equals(wanted.drop_columns("probability"))
    pairs = zip(found["probability"].to_pylist(), wanted["probability"].to_pylist())
    return max(abs(one - other) for one, other in pairs)


def leave(client, descriptor, batch):
    """Reads one chunk of many and leaves; waits for a place where the last ones still work."""
    began_at = time.monotonic()
    while True:
        writer, reader = client.do_exchange(descriptor)
        try:
            writer.begin(batch.schema)
            writer.write_batch(batch)
            rows = reader.read_chunk().data.num_rows
            reader.cancel()
            return rows
        except pa.ArrowException as error:
            assert "exchanges are going on" in str(error), error
            assert time.monotonic() - began_at < LIMIT, "nothing stops working"


def main(location, run, rows, predictions):
    client = connect(location)
    rows, wanted = parquet.read_table(rows), parquet.read_table(predictions)
    path = flight.FlightDescriptor.for_path("predict", run, "best")

    def command(**asked):
        return flight.FlightDescriptor.for_command(json.dumps({"predict": asked}))

    # In batches of odd sizes, with a column of no use, others in another order, one as a dictionary.
    city = rows.schema.get_field_index("city")
    other = rows.set_column(city, "city", rows["city"].dictionary_encode())
    other = other.select(other.column_names[::-1]).append_column("more", rows["price"])
    whole = exchange(client, path, other.to_batches(max_chunksize=50))
    best = exchange(client, command(run=int(run), top_k=1), rows.to_batches())

    price = rows.schema.get_field_index("price")
    wild = rows["price"].to_pylist()
    wild[77] = float("inf")
    wild = rows.set_column(price, "price", pa.array(wild))
    texts = rows.set_column(price, "price", pa.array(["dear"] * rows.num_rows))

    def refused(descriptor, table):
        batches = table.to_batches(max_chunksize=50)
        return refusal(lambda: exchange(client, descriptor, batches))

    many = pa.concat_tables([rows] * 200).combine_chunks().to_batches()[0]
    seen = {
        "difference": largest_difference(whole, wanted),
        "rows": whole.num_rows,
        "top": largest_difference(best, wanted.filter(pa.compute.equal(wanted["rank"], 1))),
        "refusals": {
            "no_run": refused(flight.FlightDescriptor.for_path("predict", "99", "best"), rows),
            "no_model": refused(command(run=int(run), model=77), rows),
            "no_column": refused(path, rows.drop_columns("price")),
            "wild": refused(path, wild),
            "texts": refused(path, texts),
            "path": refused(flight.FlightDescriptor.for_path("predict"), rows),
        },
        # More than may go on at a time: those that were left have ended.
        "left": sum(leave(client, path, many) for _ in range(20)) > 0,
    }
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
