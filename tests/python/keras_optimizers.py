"""Writes what Keras 3's optimizers do to a few small arrays: the oracle of the optimizers' tests.

Run it with keras and jax installed, from the root of the repository:

    KERAS_BACKEND=jax python tests/python/keras_optimizers.py > crates/train/src/optimizer/oracle.json
"""

import json
import sys

import keras
import numpy as np
from keras import ops

SHAPES = [[2, 3], [3], [2, 2, 2]]
STEPS = 6
SCHEDULES = {
    "exponential_decay": keras.optimizers.schedules.ExponentialDecay,
    "piecewise_constant_decay": keras.optimizers.schedules.PiecewiseConstantDecay,
    "polynomial_decay": keras.optimizers.schedules.PolynomialDecay,
    "inverse_time_decay": keras.optimizers.schedules.InverseTimeDecay,
    "cosine_decay": keras.optimizers.schedules.CosineDecay,
    "cosine_decay_restarts": keras.optimizers.schedules.CosineDecayRestarts,
}
CLASSES = {
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "nadam": "Nadam",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "ftrl": "Ftrl",
    "lion": "Lion",
    "adafactor": "Adafactor",
    "lamb": "Lamb",
}
EXPONENTIAL = {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5}
INVERSE = {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}
COSINE = {"initial_learning_rate": 0.1, "decay_steps": 5}
RATES = [
    ("exponential_decay", EXPONENTIAL),
    ("exponential_decay", {**EXPONENTIAL, "staircase": True}),
    ("piecewise_constant_decay", {"boundaries": [2, 4], "values": [0.1, 0.05, 0.01]}),
    ("polynomial_decay", {"initial_learning_rate": 0.1, "decay_steps": 4}),
    (
        "polynomial_decay",
        {
            "initial_learning_rate": 0.1,
            "decay_steps": 4,
            "end_learning_rate": 0.01,
            "power": 2.0,
            "cycle": True,
        },
    ),
    ("inverse_time_decay", INVERSE),
    ("inverse_time_decay", {**INVERSE, "staircase": True}),
    ("cosine_decay", COSINE),
    (
        "cosine_decay",
        {**COSINE, "initial_learning_rate": 0.0, "alpha": 0.1, "warmup_target": 0.2, "warmup_steps": 3},
    ),
    ("cosine_decay_restarts", {"initial_learning_rate": 0.1, "first_decay_steps": 3}),
    (
        "cosine_decay_restarts",
        {
            "initial_learning_rate": 0.1,
            "first_decay_steps": 3,
            "t_mul": 1.0,
            "m_mul": 0.5,
            "alpha": 0.1,
        },
    ),
]
EMA = {"use_ema": True, "ema_momentum": 0.75}
RUNS = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("sgd", {"clipvalue": 0.3}),
    ("sgd", {"clipnorm": 0.5}),
    ("sgd", {"global_clipnorm": 0.5}),
    ("sgd", EMA),
    ("rmsprop", {}),
    ("rmsprop", {"centered": True, "epsilon": 0.01}),
    ("rmsprop", {"momentum": 0.5, "rho": 0.8}),
    ("rmsprop", {"momentum": 0.5, "centered": True, "epsilon": 0.01}),
    ("adam", {}),
    ("adam", {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01, "amsgrad": True}),
    ("adam", {"global_clipnorm": 0.7, "weight_decay": 0.2, **EMA, "ema_overwrite_frequency": 2}),
    ("adamw", {}),
    ("adamw", {"weight_decay": 0.3, "amsgrad": True}),
    ("adamax", {}),
    ("adamax", {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 0.01}),
    ("nadam", {}),
    ("nadam", {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01}),
    ("adagrad", {}),
    ("adagrad", {"initial_accumulator_value": 0.0, "epsilon": 0.1}),
    ("adadelta", {"rho": 0.8, "epsilon": 0.01}),
    ("ftrl", {}),
    (
        "ftrl",
        {
            "l1_regularization_strength": 0.05,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.2,
            "beta": 0.3,
            "learning_rate_power": -0.7,
            "initial_accumulator_value": 0.2,
        },
    ),
    ("lion", {}),
    ("lion", {"beta_1": 0.7, "beta_2": 0.8, "weight_decay": 0.1}),
    ("adafactor", {}),
    ("adafactor", {"clip_threshold": 0.5, "beta_2_decay": -0.5, "epsilon_2": 0.9}),
    ("adafactor", {"clipnorm": 0.5, "weight_decay": 0.1, "learning_rate": 0.6}),
    ("lamb", {}),
    ("lamb", {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01, "weight_decay": 0.1}),
]


def numbers(array):
    """Flat, in as few digits as tell single-precision numbers apart."""
    flat = np.asarray(array, dtype=np.float32).reshape(-1)
    return [float(str(value)) for value in flat]


def draws(seed, scale):
    """One array of each shape, in tenths, with a few zeros."""
    random = np.random.default_rng(seed)
    return [np.round(random.normal(0.0, scale, shape), 1).astype(np.float32) for shape in SHAPES]


def run(name, parameters, initial, gradients):
    """The arrays after the first and the last step, and their averages then."""
    arguments = {"learning_rate": 0.05, **parameters}
    optimizer = getattr(keras.optimizers, CLASSES[name])(**arguments)
    variables = [keras.Variable(array) for array in initial]
    optimizer.build(variables)
    after = []
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(array) for array in gradient], variables)
        after.append([numbers(variable) for variable in variables])
    record = {"name": name, "parameters": arguments, "first": after[0], "last": after[-1]}
    if optimizer.use_ema:
        record["averages"] = [
            numbers(average) for average in optimizer._model_variables_moving_average
        ]
    return record


def rates(name, parameters):
    """A schedule's rates before the first steps."""
    schedule = SCHEDULES[name](**parameters)
    return {
        "schedule": name,
        "parameters": parameters,
        "rates": numbers([schedule(step) for step in range(13)]),
    }


def main():
    initial = draws(1, 1.0)
    gradients = [draws(step, 0.5) for step in range(2, 2 + STEPS)]
    oracle = {
        "keras": keras.__version__,
        "shapes": SHAPES,
        "initial": [numbers(array) for array in initial],
        "gradients": [[numbers(array) for array in step] for step in gradients],
        "runs": [run(name, parameters, initial, gradients) for name, parameters in RUNS],
        "schedules": [rates(name, parameters) for name, parameters in RATES],
    }
    lines = []
    for key, value in oracle.items():
        if key in ("runs", "schedules"):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f'"{key}": [\n{rows}\n]')
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
