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
    cargo test --workspace --test gpu

# The kernels' tests on an emulated CPU with AVX-512, its bfloat16 and AMX; needs a Python with bochscpu-python
# and numpy. CASES bounds those of each property: an emulator is slow.
test-isa CASES="5":
    PROPTEST_CASES={{CASES}} \
    RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="${ARROWHOP_PYTHON:-python3} $PWD/tests/python/emulate_cpu.py" \
    cargo test --package arrowhop-kernels --test naive --target x86_64-unknown-linux-gnu -- --test-threads 1

# What hopping costs: whole runs beside bare training, in CPU seconds.
bench-hop *ARGS:
    cargo run --release --package arrowhop-tests --no-default-features --bin bench-hop -- {{ARGS}}

# Training beside PyTorch; needs a Python with it (ARROWHOP_TORCH_PYTHON).
bench-train *ARGS:
    cargo run --release --package arrowhop-tests --no-default-features --bin bench-train -- {{ARGS}}

# Rows of PostgreSQL into Arrow beside ADBC's driver and connectorx; needs PostgreSQL, and a Python with both
# (ARROWHOP_PEERS_PYTHON: adbc-driver-postgresql, connectorx, pyarrow).
bench-postgres *ARGS:
    cargo bench --package arrowhop-source --bench postgres -- {{ARGS}}

# A shard over Flight beside pyarrow's C++ server; needs a Python with pyarrow (ARROWHOP_PYTHON).
bench-flight *ARGS:
    cargo bench --package arrowhop-flight --bench serve -- {{ARGS}}

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
