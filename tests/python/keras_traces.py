"""Training traces of small networks by Keras 3 on JAX, in the layout that `arrowhop network verify` reads.

Usage: keras_traces.py FILE.json
"""
import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
from keras import Input, Model, Sequential
from keras import layers as L

rng = np.random.default_rng(7)


def rounded(array):
    array = np.asarray(array, dtype=np.float32)
    return {"shape": list(array.shape), "data": [float(f"{v:.9g}") for v in array.ravel()]}


# Each function of this group is a network; its name without `net_` is the record's.


def net_depthwise():
    return Sequential([
        Input((7, 6, 3)),
        L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", strides=2, activation="relu"),
        L.SeparableConv2D(5, 3, padding="same", depth_multiplier=2),
        L.BatchNormalization(),
        L.ReLU(max_value=6.0),
        L.GlobalAveragePooling2D(),
        L.Dense(3, activation="softmax"),
    ])


def net_gru():
    return Sequential([
        Input((5, 3)),
        L.GRU(4, return_sequences=True),
        L.GRU(3, go_backwards=True),
        L.Dense(2, activation="softmax"),
    ])


def net_se_residual():
    image = Input((6, 6, 3))
    penalty = keras.regularizers.L1L2(1e-3, 1e-2)
    x = L.Conv2D(8, 3, padding="same", kernel_regularizer=penalty)(image)
    x = L.LeakyReLU(negative_slope=0.1)(L.BatchNormalization()(x))
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.Conv2D(8, 1, activation="sigmoid")(L.Conv2D(2, 1, activation="swish")(gate))
    x = L.Add()([L.Multiply()([x, gate]), L.Conv2D(8, 1)(image)])
    x = L.MaxPooling2D(3, 2)(L.ZeroPadding2D(((0, 1), (1, 0)))(x))
    return Model(image, L.Dense(3, activation="softmax")(L.Flatten()(x)))


def net_transformer():
    tokens = Input((6,))
    x = L.Embedding(11, 8)(tokens)
    x = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 4)(x, x)]))
    inner = L.Dense(8)(L.Dense(16, activation="gelu")(x))
    x = L.GlobalAveragePooling1D()(L.LayerNormalization()(L.Add()([x, inner])))
    return Model(tokens, L.Dense(2, activation="softmax")(x))


def net_masked():
    tokens = Input((6,))
    x = L.Embedding(11, 8, mask_zero=True)(tokens)
    x = L.LSTM(4, return_sequences=True)(x)
    x = L.Bidirectional(L.GRU(3), merge_mode="sum")(x)
    return Model(tokens, L.Dense(2, activation="softmax")(x))


def net_masked_average():
    tokens = Input((6,))
    x = L.Embedding(11, 8, mask_zero=True)(tokens)
    x = L.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    return Model(tokens, L.Dense(2, activation="softmax")(L.GlobalAveragePooling1D()(x)))


def net_shared():
    x = Input((5,))
    dense = L.Dense(5, activation="tanh")
    return Model(x, L.Dense(2, activation="softmax")(L.Subtract()([dense(dense(x)), x])))


def net_nested():
    base = Sequential(
        [Input((6, 6, 2)), L.Conv2D(4, 3), L.BatchNormalization(), L.PReLU(shared_axes=[1, 2])],
        name="base",
    )
    image = Input((6, 6, 2))
    x = base(image, training=False)  # which Keras 3 overrides when it fits
    return Model(image, L.Dense(3, activation="softmax")(L.Flatten()(x)))


def net_transposed():
    return Sequential([
        Input((4, 4, 3)),
        L.Conv2DTranspose(4, 3, strides=2, padding="same", activation="elu"),
        L.UpSampling2D(2),
        L.Cropping2D(((1, 2), (0, 3))),
        L.AveragePooling2D(3, 2, padding="same"),
        L.GroupNormalization(2),
        L.Flatten(),
        L.Dense(3, activation="softmax"),
    ])


def net_convolution_3d():
    return Sequential([
        Input((5, 4, 4, 2)),
        L.Conv3D(3, 2, padding="same"),
        L.MaxPooling3D((2, 2, 1)),
        L.TimeDistributed(L.Conv2D(2, 2, activation="softplus")),
        L.AveragePooling3D(2, 1, padding="same"),
        L.Flatten(),
        L.Dense(3, activation="softmax"),
    ])


def net_grouped_dilated():
    return Sequential([
        Input((9, 8, 4)),
        L.Conv2D(6, 3, groups=2, dilation_rate=2, activation="relu"),
        L.Permute((2, 1, 3)),
        L.Conv2D(3, (2, 3), strides=(1, 2), padding="same"),
        L.GlobalMaxPooling2D(),
        L.Dense(3, activation="softmax"),
    ])


def net_multilabel():
    return Sequential([
        Input((7,)), L.Dense(6, activation="mish"), L.Dense(4, activation="sigmoid")
    ])


def net_dot():
    x = Input((4,))
    column = L.Reshape((4, 1))(L.Dense(4)(x))
    rows = L.RepeatVector(3)(L.Dense(4)(x))
    cosines = L.Flatten()(L.Dot(axes=(1, 2), normalize=True)([column, rows]))
    return Model(x, L.Dense(3, activation="softmax")(L.Concatenate(axis=-1)([cosines, x])))


def net_lstm_states():
    x = Input((5, 3))
    y, h, c = L.LSTM(4, return_state=True, return_sequences=True)(x)
    z = L.LSTM(4)(y, initial_state=[h, c])
    return Model(x, L.Dense(2, activation="softmax")(L.Average()([z, h])))


TOKENS = {"net_transformer", "net_masked", "net_masked_average"}
LOSSES = {"net_multilabel": "binary_crossentropy"}
ROWS = 6


def disturbed(model):
    """The model's weights, away from zeros and ones; variances stay positive."""
    arrays = []
    for variable in model.weights:
        array = np.asarray(variable.value)
        if "variance" not in variable.path:
            array = array + rng.normal(0, 0.05, array.shape).astype(np.float32)
        arrays.append(array)
    return arrays


def batch(name, model):
    shape, width = model.inputs[0].shape[1:], model.outputs[0].shape[-1]
    if name in TOKENS:
        x = rng.integers(1, 11, (ROWS, *shape)).astype(np.float32)
        x[1, 4:] = 0
        x[3, 2:] = 0
    else:
        x = rng.normal(size=(ROWS, *shape)).astype(np.float32)
    if name in LOSSES:
        return x, (rng.random((ROWS, width)) < 0.5).astype(np.float32)
    return x, np.eye(width, dtype=np.float32)[rng.integers(0, width, ROWS)]


def trace(name, build):
    keras.utils.set_random_seed(3)
    model = build()
    model.set_weights(disturbed(model))
    initial = model.get_weights()
    x, y = batch(name, model)
    loss_name = LOSSES.get(name, "categorical_crossentropy")
    loss_of = keras.losses.get(loss_name)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss_name)

    def total(trainable, others):
        output, _, penalties = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return keras.ops.mean(loss_of(y, output)) + sum(penalties)

    gradients = jax.grad(total)(
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    losses = [float(model.train_on_batch(x, y)) for _ in range(3)]
    return {
        "name": name.removeprefix("net_"),
        "model": json.loads(model.to_json()),
        "initial_weights": [rounded(w) for w in initial],
        "inputs": [rounded(x)],
        "y": rounded(y),
        "loss": loss_name,
        "optimizer": "SGD lr=0.1, no momentum",
        "loss_per_step_incl_regularizers": losses,
        "first_step_gradients_trainable_order": [rounded(g) for g in gradients],
        "weights_after": [rounded(w) for w in model.get_weights()],
        "predict_after": rounded(model.predict(x, verbose=0)),
    }


networks = [(name, build) for name, build in globals().items() if name.startswith("net_")]
with open(sys.argv[1], "w") as file:
    json.dump([trace(name, build) for name, build in networks], file)
