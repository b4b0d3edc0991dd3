"""Reads one table of PostgreSQL into Arrow with a peer, and prints wall and CPU seconds, then rows.

python read_postgres.py adbc|connectorx SOCKET_FOLDER PORT TABLE
"""

import resource
import sys
import time


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(way, folder, port, table):
    query = f"SELECT * FROM {table}"
    if way == "adbc":
        from adbc_driver_postgresql import dbapi

        begun, used = time.perf_counter(), cpu()
        with dbapi.connect(f"postgresql://postgres@/bench?host={folder}&port={port}") as connection:
            with connection.cursor() as cursor:
                cursor.execute(query)
                rows = cursor.fetch_arrow_table().num_rows
    else:
        import connectorx

        begun, used = time.perf_counter(), cpu()
        address = f"postgresql://postgres@127.0.0.1:{port}/bench?sslmode=disable"
        rows = connectorx.read_sql(address, query, return_type="arrow", protocol="binary").num_rows
    print(time.perf_counter() - begun, cpu() - used, f"{rows}_rows")


main(*sys.argv[1:])
