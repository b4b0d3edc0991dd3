"""PyTorch's side of `bench-train`: trains well-known networks and says how long the steps took.

    torch_steps.py NETWORK BATCH THREADS SETTING

SETTING is `plain`, `channels_last`, or for the network of hashed features `bags`, each also with
`_bf16` for autocast; `cuda` and `cuda_tf32` put as many models as THREADS on a GPU, which take turns. Commands come by
standard input, one a line: the number of steps to make. Each is answered by one JSON line with the
wall and the CPU seconds that they took. Forward pass, backward pass and a step of SGD with momentum.
"""

import json
import resource
import sys
import time

import torch
from torch import nn


class Block(nn.Module):
    """A block of ResNet-18."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class Bags(nn.Module):
    """The network of hashed features with its first layer as the sum of rows."""

    def __init__(self):
        super().__init__()
        self.rows = nn.EmbeddingBag(7306, 1000, mode="sum")
        self.bias = nn.Parameter(torch.zeros(1000))
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(1000, 500), nn.ReLU(), nn.Linear(500, 2))

    def forward(self, places):
        return self.rest(self.rows(places) + self.bias)


def convolution(inputs, outputs, padding):
    return [nn.Conv2d(inputs, outputs, 3, padding=padding), nn.ReLU()]


def normalised(inputs, outputs):
    return [*convolution(inputs, outputs, 1), nn.BatchNorm2d(outputs)]


def m1():
    return nn.Sequential(
        *convolution(3, 32, 1), *convolution(32, 32, 0), nn.MaxPool2d(2), nn.Dropout(0.25),
        *convolution(32, 64, 1), *convolution(64, 64, 0), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(2304, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10),
    )


def m2():
    return nn.Sequential(
        *normalised(3, 32), *normalised(32, 32), nn.MaxPool2d(2), nn.Dropout(0.2),
        *normalised(32, 64), *normalised(64, 64), nn.MaxPool2d(2), nn.Dropout(0.3),
        *normalised(64, 128), *normalised(128, 128), nn.MaxPool2d(2), nn.Dropout(0.4),
        nn.Flatten(), nn.Linear(2048, 128), nn.ReLU(), nn.BatchNorm1d(128), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def resnet18():
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Bottleneck(nn.Module):
    """A block of ResNet-50."""

    def __init__(self, inputs, width, stride, has_shortcut):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )
        self.shortcut = nn.Identity()
        if has_shortcut:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        return torch.relu(self.inner(x) + self.shortcut(x))


def resnet50():
    layers = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    ]
    inputs = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, stride if block == 0 else 1, block == 0))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def dense(*sizes):
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def prepare(network, batch, setting):
    """The network, a batch and its classes."""
    images = (3, 32, 32)
    made = {
        "mlp": lambda: (dense(784, 1000, 500, 10), (784,), 10),
        "m1": lambda: (m1(), images, 10),
        "m2": lambda: (m2(), images, 10),
        "resnet18": lambda: (resnet18(), images, 10),
        "resnet50": lambda: (resnet50(), (3, 112, 112), 1000),
        "w6": lambda: (Bags() if setting == "bags" else dense(7306, 1000, 500, 2), (7306,), 2),
    }[network]
    model, shape, classes = made()
    if setting == "bags":
        x = torch.randint(0, 7306, (batch, 39))
    elif network == "w6":
        x = torch.zeros(batch, 7306)
        x.scatter_(1, torch.randint(0, 7306, (batch, 39)), 1.0)
    else:
        x = torch.rand(batch, *shape)
    if setting == "channels_last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return model, x, torch.randint(0, classes, (batch,))


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    network, batch, threads, setting = sys.argv[1:]
    torch.manual_seed(1)
    is_half, setting = setting.endswith("_bf16"), setting.removesuffix("_bf16")
    on_gpu = setting.startswith("cuda")
    if on_gpu:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting == "cuda_tf32"
        torch.backends.cudnn.benchmark = True
    else:
        torch.set_num_threads(int(threads))
    trained = []
    for _ in range(int(threads) if on_gpu else 1):
        model, x, classes = prepare(network, int(batch), setting)
        if on_gpu:
            model = model.to("cuda", memory_format=torch.channels_last)
            x, classes = x.cuda(), classes.cuda()
            if x.dim() == 4:
                x = x.to(memory_format=torch.channels_last)
        trained.append((model, x, classes, torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)))
    loss_of = nn.CrossEntropyLoss()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=is_half)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), cpu_seconds()
        for _ in range(int(line)):
            for model, x, classes, optimizer in trained:
                optimizer.zero_grad()
                with autocast:
                    loss = loss_of(model(x), classes)
                loss.backward()
                optimizer.step()
        if on_gpu:
            torch.cuda.synchronize()
        took = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
