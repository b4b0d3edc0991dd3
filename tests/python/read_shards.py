"""Reads a cluster's shards as any Arrow Flight client would: with pyarrow, and nothing of ours.

    read_shards.py SUPERVISOR [--model RUN MODEL VERSION] [--source PART FILE IMAGE LABEL]...

It knows only the supervisor's location. It checks what Flight promises (one schema in the listing,
the description and the stream), recomputes the rows' digest as documented in
crates/source/src/digest.rs, and prints what it saw as one JSON object. With --source, every row is
also compared with the Parquet file that it came from.
"""

import argparse
import json
import sys

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as parquet
from blake3 import blake3

PARTS = {"train": 1, "validation": 2}


def varint(number):
    """A protobuf varint."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(*fields):
    """A protobuf message of (number, integer or bytes) fields."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def parse(data):
    """The (number, integer or bytes) fields of a protobuf message with nothing but those."""

    def read_varint(at):
        number = shift = 0
        while True:
            number |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                return number, at

    fields, at = [], 0
    while at < len(data):
        key, at = read_varint(at)
        value, at = read_varint(at)
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
        fields.append((key >> 3, value))
    return fields


def shard_ticket(data_set, shard, part):
    """schemas/tickets.proto: Ticket { format, shard: Shard { data_set, shard, part } }"""
    return message((1, 1), (2, message((1, data_set), (2, shard), (3, PARTS[part]))))


def model_ticket(run, model, version):
    """schemas/tickets.proto: Ticket { format, model: Model { run, model, version } }"""
    return message((1, 1), (3, message((1, run), (2, model), (3, version))))


def values(array):
    """The bytes of an array of numbers, or of lists of numbers."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    width = array.type.bit_width // 8
    data = array.buffers()[1] if len(array) else b""
    return memoryview(data)[array.offset * width : (array.offset + len(array)) * width]


def rows_of(batch):
    """(row, its inputs and targets as bytes) of every row of a batch."""
    columns = [values(column) for column in batch.columns[1:]]
    sizes = [len(column) // batch.num_rows for column in columns]
    for i, row in enumerate(batch.column("row").to_pylist()):
        yield row, [column[i * size : (i + 1) * size] for column, size in zip(columns, sizes)]


class Source:
    """A Parquet file with an image and a label per row."""

    def __init__(self, path, image, label):
        table = parquet.read_table(path, columns=[image, label])
        self.images = table.column(image).combine_chunks()
        self.labels = table.column(label).to_pylist()
        self.classes = json.loads(table.schema.field(label).metadata[b"classes"])

    def check(self, row, x, y, classes):
        """Raises unless this is the file's row, in the image's bytes and in the class's name."""
        assert self.images[row].as_py() == bytes(x), f"row {row}: another image"
        found = classes[int.from_bytes(y, "little")]
        assert found == self.classes[self.labels[row]], f"row {row}: another class"


def connect(location):
    """A client. Over a Unix socket, gRPC must be told a name for the server."""
    options = [("grpc.default_authority", "localhost")]
    return flight.connect(location, generic_options=options if "unix" in location else [])


class Reader:
    """A client that goes where endpoints send it."""

    def __init__(self, supervisor):
        self.supervisor = connect(supervisor)
        self.clients = {}
        self.digest = 0

    def at(self, location):
        if location not in self.clients:
            self.clients[location] = connect(location)
        return self.clients[location]

    def read_part(self, info, source):
        """Reads all shards of a flight; says what they are."""
        part = info.descriptor.path[1].decode()
        described = self.supervisor.get_flight_info(info.descriptor)
        assert described == info, "ListFlights and GetFlightInfo differ"
        schema = self.supervisor.get_schema(info.descriptor).schema
        assert schema.equals(info.schema, check_metadata=True), "GetSchema and GetFlightInfo differ"
        seen, endpoints = set(), []
        for endpoint in info.endpoints:
            location = endpoint.locations[0].uri.decode()
            stream = self.at(location).do_get(endpoint.ticket)
            assert stream.schema.equals(schema, check_metadata=True), "another schema in the stream"
            rows = 0
            for chunk in stream:
                rows += chunk.data.num_rows
                self.take(chunk.data, part, source, seen)
            shard = int(endpoint.app_metadata)
            endpoints.append({
                "shard": shard,
                "locations": [place.uri.decode() for place in endpoint.locations],
                "rows": rows,
            })
        return {
            "name": info.app_metadata.decode(),
            "rows": info.total_records,
            "bytes": info.total_bytes,
            "rows_distinct": len(seen),
            "shape": schema.field("x").type.shape,
            "classes": json.loads(schema.field("y").metadata[b"classes"]),
            "endpoints": endpoints,
        }

    def take(self, batch, part, source, seen):
        """Adds a batch's rows to the digest; compares them with their source where there is one."""
        classes = json.loads(batch.schema.field("y").metadata[b"classes"])
        code = bytes([part == "validation"])
        for row, columns in rows_of(batch):
            digest = blake3(code + row.to_bytes(8, "little") + b"".join(columns)).digest()
            self.digest = (self.digest + int.from_bytes(digest, "little")) % 2**256
            seen.add(row)
            if source:
                source.check(row, *columns, classes)


def read_selections(reader, info):
    """Some columns and rows of a part, beside the same of the whole part, pyarrow's way."""
    data_set, part = (name.decode() for name in info.descriptor.path)
    whole = {}
    for endpoint in info.endpoints:
        client = reader.at(endpoint.locations[0].uri.decode())
        whole[int(endpoint.app_metadata)] = client.do_get(endpoint.ticket).read_all()
    longest = max(table.num_rows for table in whole.values())
    seen = []
    for columns, (start, end), shards in [
        (["y"], (0, 1), None),
        (["y", "x"], (3, longest - 1), None),
        (["row", "x", "y"], (longest // 2, longest), [max(whole), min(whole)]),
        (None, (5, 6), [min(whole)]),
    ]:
        query = {"data_set": data_set, "part": part, "columns": columns, "rows": [start, end]}
        query["shards"] = shards
        query = {key: value for key, value in query.items() if value is not None}
        asked = flight.FlightDescriptor.for_command(json.dumps(query))
        selected = reader.supervisor.get_flight_info(asked)
        assert selected.schema.equals(reader.supervisor.get_schema(asked).schema)
        rows = 0
        for endpoint in selected.endpoints:
            client = reader.at(endpoint.locations[0].uri.decode())
            found = client.do_get(endpoint.ticket).read_all()
            wanted = whole[int(endpoint.app_metadata)].slice(start, end - start)
            wanted = wanted.select(columns) if columns else wanted
            assert found.schema.equals(selected.schema, check_metadata=True)
            assert found.schema.equals(wanted.schema, check_metadata=True)
            assert found.equals(wanted), f"{query}: other rows"
            rows += found.num_rows
        assert rows == selected.total_records
        seen.append({"shards": len(selected.endpoints), "rows": rows})
    return seen


def refusal(call):
    """The kind and the text of the error that a call ends with."""
    try:
        call()
    except (pa.ArrowException, KeyError) as error:
        return {"kind": type(error).__name__, "text": str(error)}
    return None


def put_one_row(client, data_set):
    """Tries to put a shard."""
    shard = message((1, data_set), (2, 0), (3, PARTS["train"]))
    header = message((1, 1), (2, shard), (3, b"toy"), (4, 1), (5, 1_000))
    table = pa.table({"row": pa.array([0], pa.uint64())})
    writer, _ = client.do_put(flight.FlightDescriptor.for_command(header), table.schema)
    with writer:
        writer.write_table(table)


def refusals(client, flights):
    """What is refused, and how."""
    first = flights[0]
    data_set = bytes.fromhex(first.descriptor.path[0].decode())
    absent = flight.FlightDescriptor.for_path("absent", "train")
    query = {"data_set": data_set.hex(), "columns": ["z"], "rows": [0, 1]}
    column = flight.FlightDescriptor.for_command(json.dumps(query))

    def read(ticket):
        return refusal(lambda: client.do_get(flight.Ticket(ticket)))

    return {
        "garbage": read(b"\xff\xff"),
        "elsewhere": read(first.endpoints[0].ticket.ticket),
        "no_shard": read(shard_ticket(data_set, 999, "train")),
        "no_model": read(model_ticket(999, 1, 1)),
        "no_data_set": refusal(lambda: client.get_flight_info(absent)),
        "no_column": refusal(lambda: client.get_flight_info(column)),
        "put": refusal(lambda: put_one_row(client, data_set)),
        "action": refusal(lambda: list(client.do_action(flight.Action("shuffle", b"")))),
    }


def status(client):
    """What the action `status` answers: StoreStatus { used, limit, shards, models }."""
    (answer,) = client.do_action(flight.Action("status", b""))
    fields = parse(answer.body.to_pybytes())
    numbers = {field: value for field, value in fields if isinstance(value, int)}
    shards = [dict(parse(value)) for field, value in fields if field == 3]
    return {
        "used_bytes": numbers.get(1, 0),
        "limit_bytes": numbers.get(2, 0),
        "shards": len(shards),
        "rows": sum(shard[3] for shard in shards),
        "shard_bytes": sum(shard[4] for shard in shards),
    }


def read_model(client, run, model, version):
    """A model's state: its size and digest, and what the stream announces."""
    stream = client.do_get(flight.Ticket(model_ticket(run, model, version)))
    state = b"".join(chunk.as_py() for chunk in stream.read_all().column("chunk"))
    announced = {key.decode(): value.decode() for key, value in stream.schema.metadata.items()}
    return {"bytes": len(state), "digest": blake3(state).hexdigest(), "announced": announced}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("supervisor")
    arguments.add_argument("--model", nargs=3, type=int)
    arguments.add_argument("--source", nargs=4, action="append", default=[])
    options = arguments.parse_args()
    sources = {part: Source(*rest) for part, *rest in options.source}

    reader = Reader(options.supervisor)
    client = reader.supervisor
    flights = list(client.list_flights())
    parts = {}
    for info in flights:
        part = info.descriptor.path[1].decode()
        assert part not in parts, f"two flights of {part} rows"
        parts[part] = reader.read_part(info, sources.get(part))
    seen = {
        "data_sets": sorted({info.descriptor.path[0].decode() for info in flights}),
        "parts": parts,
        "selections": read_selections(reader, flights[0]),
        "rows_digest": reader.digest.to_bytes(32, "little").hex(),
        "actions": [action.type for action in client.list_actions()],
        "status": status(client),
        "segments": {place: status(segment) for place, segment in reader.clients.items()},
        "refusals": refusals(client, flights),
    }
    if options.model:
        seen["model"] = read_model(client, *options.model)
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
