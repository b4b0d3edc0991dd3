"""Ray Tune's side of `beside_ray.py`: the 16 configurations of examples/cifar10.toml with PyTorch.

    ray_search.py TRAIN.parquet TEST.parquet ROWS EPOCHS TRIALS_AT_ONCE

As a careful user would write it: one thread a trial, images channels last, shared by all trials in
Ray's object store. The last line is a JSON list: each trial's last validation accuracy.
"""

import io
import json
import sys

import numpy
import pyarrow.parquet
import ray
import torch
from PIL import Image
from ray import tune
from torch import nn

from torch_steps import m1, m2


def images(path, rows):
    table = pyarrow.parquet.read_table(path).slice(0, rows)
    column = table.column("image").to_pylist()
    encoded = [value["bytes"] if isinstance(value, dict) else value for value in column]
    decoded = [numpy.asarray(Image.open(io.BytesIO(bytes)).convert("RGB")) for bytes in encoded]
    return numpy.stack(decoded), numpy.asarray(table.column("label"), dtype=numpy.int64)


def optimizer_of(config, parameters):
    if config["optimizer"] == "adam":
        return torch.optim.Adam(parameters, lr=config["learning_rate"], eps=1e-7)
    return torch.optim.RMSprop(parameters, lr=config["learning_rate"], alpha=0.9, eps=1e-7)


def as_keras(network):
    """First weights, and statistics over batches, as Keras has them."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.momentum, layer.eps = 0.01, 1e-3
    return network


def batches(data, size, order=None):
    pixels, classes = data
    for start in range(0, len(pixels), size):
        rows = slice(start, start + size) if order is None else order[start:start + size]
        x = torch.from_numpy(numpy.ascontiguousarray(pixels[rows])).permute(0, 3, 1, 2)
        yield x.float().div_(256.0), torch.from_numpy(classes[rows].copy())


def trial(config, train, test, epochs):
    torch.set_num_threads(1)
    torch.manual_seed(2018)
    network = as_keras({"m1": m1, "m2": m2}[config["network"]]())
    network = network.to(memory_format=torch.channels_last)
    optimizer, loss_of = optimizer_of(config, network.parameters()), nn.CrossEntropyLoss()
    for _ in range(epochs):
        network.train()
        for x, classes in batches(train, config["batch_size"], torch.randperm(len(train[0])).numpy()):
            optimizer.zero_grad()
            loss_of(network(x), classes).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            right = sum(
                int((network(x).argmax(1) == classes).sum()) for x, classes in batches(test, 256)
            )
        tune.report({"validation_accuracy": right / len(test[0])})


def main():
    train_file, test_file, rows, epochs, at_once = sys.argv[1:]
    ray.init(num_cpus=int(at_once), include_dashboard=False, logging_level="ERROR")
    train, test = images(train_file, int(rows)), images(test_file, int(rows))
    grid = tune.grid_search
    space = {
        "network": grid(["m1", "m2"]), "optimizer": grid(["rmsprop", "adam"]),
        "learning_rate": grid([1e-4, 1e-3]), "batch_size": grid([64, 128]),
    }
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(trial, train=train, test=test, epochs=int(epochs)), {"cpu": 1}
        ),
        param_space=space,
        run_config=tune.RunConfig(verbose=0),
    )
    results = tuner.fit()
    print(json.dumps([result.metrics["validation_accuracy"] for result in results]))


if __name__ == "__main__":
    main()
