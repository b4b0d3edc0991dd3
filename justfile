# What CI runs, by name. Each line works without `just`, too.

default: tidy lint test

# Format, and our own rules.
tidy:
    cargo fmt --all --check
    cargo test --package arrowhop-tests --test tidy

# Clippy and rustdoc, warnings denied.
lint:
    cargo clippy --workspace --all-targets -- --deny warnings
    RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps

# Everything.
test:
    cargo test --workspace

# On a GPU; Mesa's in software (mesa-vulkan-drivers) will do.
test-gpu:
    cargo test --package arrowhop-tests --features wgpu --test gpu

# What hopping costs: whole runs beside bare training, in CPU seconds.
bench-hop *ARGS:
    cargo run --release --package arrowhop-tests --bin bench-hop -- {{ARGS}}

# Training beside PyTorch; needs a Python with it (ARROWHOP_TORCH_PYTHON).
bench-train *ARGS:
    cargo run --release --package arrowhop-tests --bin bench-train -- {{ARGS}}

# Eight models on one GPU beside PyTorch's.
bench-gpu *ARGS:
    cargo run --release --package arrowhop-tests --features wgpu,autotune --bin bench-train -- --device gpu \
        --networks m2,resnet18,resnet50 --batches 64 --threads 8 {{ARGS}}

# A whole model selection beside Ray Tune's; needs a Python with both.
bench-ray DATA *ARGS:
    cargo build --release
    ${ARROWHOP_TORCH_PYTHON:-python3} tests/python/beside_ray.py {{DATA}} {{ARGS}}

# The quickstart.
demo:
    cargo run --release -- fit examples/quickstart.toml

# What CI runs.
ci:
    .ci/run
