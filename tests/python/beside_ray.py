"""A whole model selection beside Ray Tune's: the 16 configurations of examples/cifar10.toml.

    beside_ray.py DATA_FOLDER [--rows 2000] [--epochs 2] [--rounds 1]

Both run as commands of their own, one after the other, on all cores: `arrowhop fit` with a segment a
core, and `ray_search.py` with a trial a core. Of each: wall seconds, CPU seconds, and the peak of the
memory of all its processes together (proportional set sizes, looked at five times a second). Prints a
line of JSON each and a table. Wants torch, ray[tune], psutil, pillow, pyarrow, and
target/release/arrowhop.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import psutil

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Watched:
    """Memory and CPU time of a process and all it started, and of what those left behind."""

    def __init__(self, session):
        self.session, self.peak, self.cpu, self.ended = session, 0, {}, threading.Event()

    def look(self):
        memory = 0
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) not in self.session and not self.is_rays(process):
                    continue
                memory += process.memory_full_info().pss
                times = process.cpu_times()
                self.cpu[process.pid, process.create_time()] = times.user + times.system
            except (psutil.Error, ProcessLookupError, PermissionError):
                continue
        self.peak = max(self.peak, memory)

    @staticmethod
    def is_rays(process):
        return process.name().startswith("ray::") or "ray/core" in " ".join(process.cmdline()[:3])

    def run(self):
        while not self.ended.wait(0.2):
            self.look()


def measure(command, folder):
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=folder, env={**os.environ, "RAY_AIR_NEW_OUTPUT": "0", "OMP_NUM_THREADS": "1"},
    )
    watched = Watched({process.pid})
    thread = threading.Thread(target=watched.run)
    thread.start()
    out, err = process.communicate()
    wall = time.perf_counter() - begun
    watched.ended.set()
    thread.join()
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{err[-4000:]}")
    return out, {
        "wall_s": round(wall, 2),
        "cpu_s": round(sum(watched.cpu.values()), 2),
        "peak_mib": round(watched.peak / 2**20),
    }


def shown(accuracies):
    """Of all models, the best first."""
    return [round(accuracy, 3) for accuracy in sorted(accuracies, reverse=True)]


def ours(options, cores, folder):
    command = [
        str(ROOT / "target/release/arrowhop"), "fit", str(ROOT / "examples/cifar10.toml"),
        "--data", options.data, "--segments", str(cores), "--max-rows", str(options.rows),
        "--epochs", str(options.epochs), "--state", f"{folder}/state", "--device", "cpu",
        "--output", "json",
    ]
    out, measured = measure(command, folder)
    values = [model["validation_accuracy"] for model in json.loads(out)["models"]]
    return {"system": "arrowhop", **measured, "accuracies": shown(values)}


def theirs(options, cores, folder):
    data = pathlib.Path(options.data)
    command = [
        sys.executable, str(pathlib.Path(__file__).with_name("ray_search.py")),
        str(data / "cifar10-train-jpeg.parquet"), str(data / "cifar10-test-jpeg.parquet"),
        str(options.rows), str(options.epochs), str(cores),
    ]
    out, measured = measure(command, folder)
    return {"system": "ray", **measured, "accuracies": shown(json.loads(out.splitlines()[-1]))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    options.data = str(pathlib.Path(options.data).resolve())
    cores = len(os.sched_getaffinity(0))
    for round_ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            pair = [run(options, cores, folder) for run in (ours, theirs)]
        for measured in pair:
            print(json.dumps({"round": round_, "rows": options.rows, "epochs": options.epochs,
                              "cores": cores, **measured}), flush=True)
        us, them = pair
        print(f"wall {them['wall_s'] / us['wall_s']:.2f} times as long with Ray Tune, memory "
              f"{them['peak_mib'] / us['peak_mib']:.2f} times as much", flush=True)


if __name__ == "__main__":
    main()
