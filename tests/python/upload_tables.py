"""Uploads tables to a supervisor, with pyarrow and nothing of ours, and reads them back.

    upload_tables.py SUPERVISOR TRAIN VALIDATION

TRAIN and VALIDATION are Parquet files. Prints what it saw as one JSON object.
"""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as parquet

from read_shards import connect, message, refusal


def path(name):
    return flight.FlightDescriptor.for_path("upload", name)


def upload(client, name, table, options=None):
    writer, _ = client.do_put(path(name), table.schema, options=options)
    with writer:
        writer.write_table(table, max_chunksize=100)


def read(client, name):
    """A table as it was kept, once every way of describing it says the same."""
    info = client.get_flight_info(path(name))
    assert info in list(client.list_flights()), "ListFlights and GetFlightInfo differ"
    assert client.get_schema(path(name)).schema.equals(info.schema, check_metadata=True)
    (endpoint,) = info.endpoints
    table = connect(endpoint.locations[0].uri.decode()).do_get(endpoint.ticket).read_all()
    assert table.schema.equals(info.schema, check_metadata=True)
    assert table.num_rows == info.total_records
    return table


def drop(client, name):
    list(client.do_action(flight.Action("drop-data-set", message((2, name.encode())))))


def main(location, train, validation):
    client = connect(location)
    train, validation = parquet.read_table(train), parquet.read_table(validation)
    for name, table in [("train.v1", train), ("validation", validation)]:
        upload(client, name, table)
        assert read(client, name).equals(table), f"{name}: other rows"

    # Dictionaries, one of which grows, nested lists, and nothing at all.
    words = pa.array(["a", "b"] * 150).dictionary_encode()
    more = pa.array(["c", "b"] * 50).dictionary_encode()
    odd = pa.table({
        "word": pa.chunked_array([words, more]).unify_dictionaries(),
        "list": pa.array([[[1.5], []], None] * 200),
        "nothing": pa.nulls(400),
    })
    upload(client, "dropped", odd)
    assert read(client, "dropped").equals(odd)
    reader = client.do_get(client.get_flight_info(path("dropped")).endpoints[0].ticket)
    drop(client, "dropped")
    assert reader.read_all().equals(odd), "what is dropped is read to its end"
    dropped = refusal(lambda: client.get_flight_info(path("dropped")))

    packed = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression="zstd"))
    refusals = {
        "again": refusal(lambda: upload(client, "validation", train)),
        "name": refusal(lambda: upload(client, "../escape", train)),
        "compressed": refusal(lambda: upload(client, "packed", train, packed)),
        "dropped": dropped,
    }
    listed = {
        info.app_metadata.decode(): info.total_records
        for info in client.list_flights()
        if info.descriptor.path[0] == b"upload"
    }
    json.dump({"listed": listed, "refusals": refusals}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
