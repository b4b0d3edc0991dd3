"""The other side of `just bench-flight`: pyarrow's C++ Flight server and client.

    serve_shards.py serve LOCATION FROM   serves, at LOCATION, the one shard that the server at FROM has
    serve_shards.py read LOCATION TIMES   reads the first shard at LOCATION, batch by batch

`serve` prints its location when it is ready; `read` prints one JSON object.
"""

import json
import resource
import sys
import time

import pyarrow.flight as flight


def connect(location):
    """A client. Over a Unix socket, gRPC must be told a name for the server."""
    options = [("grpc.default_authority", "localhost")]
    return flight.connect(location, generic_options=options if "unix" in location else [])


class Server(flight.FlightServerBase):
    """Serves one table, whatever the ticket says."""

    def __init__(self, location, table, info):
        super().__init__(location)
        self.table, self.info = table, info

    def list_flights(self, context, criteria):
        yield self.info

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.table)


def serve(location, source):
    client = connect(source)
    (info,) = client.list_flights()
    table = client.do_get(info.endpoints[0].ticket).read_all()
    client.close()
    server = Server(location, table, info)
    tcp = location.startswith("grpc+tcp")
    print(f"grpc+tcp://127.0.0.1:{server.port}" if tcp else location, flush=True)
    server.serve()


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read(location, times):
    client = connect(location)
    (info,) = client.list_flights()
    ticket = info.endpoints[0].ticket
    began_at, cpu, size, rows = time.monotonic(), cpu_seconds(), 0, 0
    for _ in range(times):
        for chunk in client.do_get(ticket):
            size += chunk.data.nbytes
            rows += chunk.data.num_rows
    seen = {
        "wall_seconds": time.monotonic() - began_at,
        "cpu_seconds": cpu_seconds() - cpu,
        "bytes": size,
        "rows": rows,
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        read(sys.argv[2], int(sys.argv[3]))
