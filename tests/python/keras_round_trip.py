"""Real Keras on the other side of weight files: it writes what we read, and reads what we write.

    keras_round_trip.py save DIR       models of many layers, in every format that Keras saves
    keras_round_trip.py load DIR       what was exported of them: the same weights, bit for bit
    keras_round_trip.py rows FILE      a Parquet file of small pictures with two classes
    keras_round_trip.py predict DIR    an exported model's predictions on those rows, as JSON
    keras_round_trip.py train DIR      a small model trained by Keras on those rows, and its predictions

DIR/NAME/ of `save` holds architecture.json, arrays.json (names and shapes in get_weights() order),
weights.f32 (the numbers), and the model in Keras's formats; `load` reads DIR/NAME/exported/.
"""

import json
import os
import struct
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402


def models():
    """One model for each way in which layers lie in weight files."""
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, name="wide"), layers.BatchNormalization()], name="inner"
    )
    yield "cnn", keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="first"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.SeparableConv2D(6, 3, use_bias=False),
            layers.DepthwiseConv2D(2),
            layers.PReLU(),
            layers.Flatten(),
            layers.Dense(7, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ],
        name="cnn",
    )
    yield "nested", keras.Sequential(
        [keras.Input((6,)), inner, layers.Dense(4), layers.LayerNormalization()], name="nested"
    )
    text = keras.Input((9,))
    x = layers.Embedding(20, 6)(text)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.GRU(5, return_sequences=True)(x)
    x = layers.TimeDistributed(layers.Dense(6))(x)
    attended = layers.MultiHeadAttention(2, 3, dropout=0.1)(x, x)
    x = layers.Add()([x, attended])
    x = layers.SimpleRNN(4)(x)
    yield "text", keras.Model(text, layers.Dense(2)(x), name="text")
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    shared = layers.Dense(4, name="shared")
    both = layers.Concatenate()([shared(left), shared(right)])
    both = layers.BatchNormalization(scale=False)(both)
    yield "shared", keras.Model([left, right], layers.Dense(1)(both), name="shared")


def save(folder):
    keras.utils.set_random_seed(5)
    draw = np.random.default_rng(5)
    for name, model in models():
        model.set_weights([draw.random(w.shape, dtype="float32") for w in model.get_weights()])
        model.compile("adam", "mse")
        place = folder / name
        place.mkdir(parents=True)
        (place / "architecture.json").write_text(model.to_json())
        names = [
            f"{layer.name}/{w.path.split(layer.name + '/', 1)[-1]}"
            for layer in model.layers
            for w in layer.weights
        ]
        weights = model.get_weights()
        assert len(names) == len(weights)
        arrays = [{"name": n, "shape": w.shape} for n, w in zip(names, weights)]
        (place / "arrays.json").write_text(json.dumps(arrays))
        (place / "weights.f32").write_bytes(b"".join(w.astype("<f4").tobytes() for w in weights))
        np.savez_compressed(place / "weights.npz", *weights)
        model.save_weights(place / "new.weights.h5")
        model.save(place / "model.keras")
        model.save(place / "model.h5")


def read_safetensors(file):
    """The arrays of a safetensors file, in the order of their names. The format is a length, a JSON
    header, and the numbers."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    arrays = []
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        flat = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4")
        arrays.append(flat.reshape(header[name]["shape"]))
    return arrays


def loaded(folder, fresh):
    """The weights in each exported format, as Keras sees them."""
    with np.load(folder / "weights.npz") as arrays:
        yield "npz", [arrays[name] for name in arrays.files]
    yield "safetensors", read_safetensors(folder / "weights.safetensors")
    flat = np.frombuffer((folder / "weights.f32").read_bytes(), "<f4")
    ends = np.cumsum([w.size for w in fresh.get_weights()])
    assert ends[-1] == flat.size
    parts = np.split(flat, ends[:-1])
    yield "raw", [part.reshape(w.shape) for part, w in zip(parts, fresh.get_weights())]
    fresh.load_weights(folder / "model.weights.h5")
    yield "h5", fresh.get_weights()
    yield "keras", keras.saving.load_model(folder / "model.keras").get_weights()


def load(folder):
    for name, model in models():
        place = folder / name
        flat = np.frombuffer((place / "weights.f32").read_bytes(), "<f4")
        for form, weights in loaded(place / "exported", model):
            found = np.concatenate([w.ravel() for w in weights])
            assert np.array_equal(found, flat), f"{name}: {form} differs"
            print(f"{name}: {form}")


def pictures():
    draw = np.random.default_rng(7)
    x = draw.random((240, 6, 6, 1), dtype="float32")
    y = (x[:, :3].mean((1, 2, 3)) > x[:, 3:].mean((1, 2, 3))).astype("int64")
    return x, y


def rows(file):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    x, y = pictures()
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 36)
    parquet.write_table(pa.table({"picture": column, "label": pa.array(y)}), file)


def predict(folder):
    x, _ = pictures()
    model = keras.models.model_from_json((folder / "architecture.json").read_text())
    predictions = {}
    for form, weights in loaded(folder, model):
        model.set_weights(weights)
        predictions[form] = model.predict(x, verbose=0).tolist()
    print(json.dumps(predictions))


def train(folder):
    x, y = pictures()
    keras.utils.set_random_seed(11)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(3, 3, activation="relu", name="features"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(2, activation="softmax", name="classes"),
        ],
        name="pictures",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=3, verbose=0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pictures.json").write_text(model.to_json())
    model.save_weights(folder / "pictures.weights.h5")
    model.save(folder / "pictures.keras")
    model.save(folder / "pictures_old.h5")
    np.savez(folder / "pictures.npz", *model.get_weights())
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    print(json.dumps({"predictions": model.predict(x, verbose=0).tolist(), **evaluated}))


if __name__ == "__main__":
    {"save": save, "load": load, "rows": rows, "predict": predict, "train": train}[sys.argv[1]](
        Path(sys.argv[2])
    )
