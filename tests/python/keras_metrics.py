"""Writes what Keras 3 measures of a few predictions: crates/train/tests/keras_metrics.json.

    KERAS_BACKEND=jax python tests/python/keras_metrics.py > crates/train/tests/keras_metrics.json

Written with keras 3.15.1 on jax. Predictions are multiples of 1/64, so that they tie with each other
and with thresholds, and so that every one is the same number in single and double precision.
"""

import json

import keras
import numpy as np

RNG = np.random.default_rng(17)


def predictions(rows, width):
    return (RNG.integers(1, 64, (rows, width)) / 64).astype("float32")


def distribution(rows, width):
    """Rows of positive numbers that add up to 1."""
    cuts = np.stack([np.sort(RNG.choice(63, width - 1, replace=False) + 1) for _ in range(rows)])
    edges = np.concatenate([np.zeros((rows, 1)), cuts, np.full((rows, 1), 64)], axis=1)
    return (np.diff(edges, axis=1) / 64).astype("float32")


def value(metric, y_true, y_pred):
    metric.update_state(y_true, y_pred)
    return float(metric.result())


def case(name, y_true, y_pred, metrics):
    values = {text: value(metric, y_true, y_pred) for text, metric in metrics.items()}
    return {"name": name, "width": y_pred.shape[1], "y_true": y_true.ravel().tolist(),
            "y_pred": y_pred.ravel().tolist(), "metrics": values}


def weighted_loss(name, loss, classes, y_pred, weights):
    """The loss of one training batch of a network that gives out what it is given."""
    width = y_pred.shape[1]
    model = keras.Sequential([
        keras.layers.Input((width,)),
        keras.layers.Dense(width, kernel_initializer="identity"),
    ])
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=loss)
    y_true = np.eye(width, dtype="float32")[classes] if width > 1 else classes[:, None]
    found = model.train_on_batch(y_pred, y_true, class_weight=dict(enumerate(weights)))
    return {"name": name, "loss": loss, "width": width, "classes": classes.tolist(),
            "y_pred": y_pred.ravel().tolist(), "class_weights": weights, "value": float(found)}


def main():
    m = keras.metrics
    confusion = {
        "precision(threshold=0.25)": lambda: m.Precision(thresholds=0.25),
        "recall(threshold=0.75)": lambda: m.Recall(thresholds=0.75),
        "precision": m.Precision,
        "true_positives": m.TruePositives,
        "true_negatives(threshold=0.125)": lambda: m.TrueNegatives(thresholds=0.125),
        "false_positives": m.FalsePositives,
        "false_negatives(threshold=0.5)": m.FalseNegatives,
        "auc": m.AUC,
        "auc(num_thresholds=65)": lambda: m.AUC(num_thresholds=65),
        "auc(curve=PR)": lambda: m.AUC(curve="PR"),
        "binary_accuracy(threshold=0.375)": lambda: m.BinaryAccuracy(threshold=0.375),
        "binary_crossentropy(label_smoothing=0.1)":
            lambda: m.BinaryCrossentropy(label_smoothing=0.1),
    }
    f1_scores = {
        "f1_score": lambda: m.F1Score(average="macro"),
        "f1_score(average=micro)": lambda: m.F1Score(average="micro"),
        "f1_score(average=weighted)": lambda: m.F1Score(average="weighted"),
        "f1_score(average=macro,threshold=0.5)": lambda: m.F1Score(average="macro", threshold=0.5),
        "f1_score(average=weighted,threshold=0.25)":
            lambda: m.F1Score(average="weighted", threshold=0.25),
    }
    classification = {
        "accuracy": m.CategoricalAccuracy,
        "top_2_accuracy": lambda: m.TopKCategoricalAccuracy(k=2),
        "top_k_categorical_accuracy(k=3)": lambda: m.TopKCategoricalAccuracy(k=3),
        "categorical_crossentropy": m.CategoricalCrossentropy,
        "kl_divergence": m.KLDivergence,
        "categorical_hinge": m.CategoricalHinge,
        "hinge": m.Hinge,
    }
    regression = {
        "r2_score": m.R2Score,
        "root_mean_squared_error": m.RootMeanSquaredError,
        "mse": m.MeanSquaredError,
        "mae": m.MeanAbsoluteError,
        "mape": m.MeanAbsolutePercentageError,
        "msle": m.MeanSquaredLogarithmicError,
        "cosine_similarity": m.CosineSimilarity,
        "logcosh": m.LogCoshError,
        "poisson": m.Poisson,
    }

    def made(*kinds):
        return {text: metric() for kind in kinds for text, metric in kind.items()}

    one_hot = np.eye(4, dtype="float32")[RNG.integers(0, 4, 30)]
    labels = RNG.integers(0, 2, (30, 3)).astype("float32")
    binary = RNG.integers(0, 2, (40, 1)).astype("float32")
    cases = [
        case("classes", one_hot, distribution(30, 4), made(classification, f1_scores, confusion)),
        case("labels", labels, predictions(30, 3), made(confusion, f1_scores)),
        case("binary", binary, predictions(40, 1), made(confusion)),
        case("nothing found", np.zeros((5, 1), "float32"), predictions(5, 1), made(confusion)),
        case("numbers", predictions(25, 2) * 4, predictions(25, 2) * 4, made(regression)),
    ]
    classes, sides = RNG.integers(0, 3, 12), RNG.integers(0, 2, 12)
    weighted = [
        weighted_loss("classes", "categorical_crossentropy", classes, distribution(12, 3),
                      [0.5, 2.0, 3.0]),
        weighted_loss("binary", "binary_crossentropy", sides, predictions(12, 1), [1.0, 4.0]),
        weighted_loss("regression on classes", "mean_squared_error", classes, predictions(12, 3),
                      [0.0, 1.0, 0.25]),
    ]
    print(json.dumps({"cases": cases, "weighted": weighted}))


main()
