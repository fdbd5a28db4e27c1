# Kinora for NVIDIA GPUs of one compute capability (90: H100; 120: RTX 5090; 89: RTX 4090; 80: A100), built from the repository's root:
#
#     docker build --file deploy/cuda.Dockerfile --build-arg CAPABILITY=89 --tag kinora:cuda .
#
# It is run with `--gpus all`; docs/containers.md says more.
FROM rust:1-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends nasm python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY scripts/cuda scripts/cuda
# nvcc from PyPI, and stubs to link against, as the tests use them.
RUN scripts/cuda/toolkit.sh /cuda && . /cuda/env.sh && scripts/cuda/stubs.sh /cuda
COPY . .
ARG CAPABILITY=90
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    export CXXSTDLIB=static=stdc++ CARGO_PROFILE_RELEASE_STRIP=symbols CUDA_COMPUTE_CAP=${CAPABILITY} \
    && RUSTFLAGS="-L native=$(dirname "$(g++ -print-file-name=libstdc++.a)")" \
    && export RUSTFLAGS \
    && cargo build --release --locked \
    && . /cuda/env.sh \
    && cargo build --release --locked --features cuda --bin kinora-cuda \
    && cp target/release/kinora target/release/kinora-cuda /

FROM nvidia/cuda:13.0.2-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libcublas-13-0 libcurand-13-0 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --user-group --home-dir /data --shell /usr/sbin/nologin kinora \
    && mkdir /models /data && chown kinora:kinora /models /data
COPY --from=build /kinora /kinora-cuda /usr/local/bin/
COPY LICENSE-MIT LICENSE-APACHE NOTICE /usr/share/doc/kinora/
# The hub cache, which huggingface_hub shares; clips, uploads and the queue.
ENV HF_HOME=/models KINORA_CACHE=/data/cache
VOLUME ["/models", "/data"]
WORKDIR /data
USER 65532:65532
EXPOSE 7788
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7788 && printf 'GET /healthz HTTP/1.1\\r\\nHost: 127.0.0.1:7788\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.1 200' <&3"]
ENTRYPOINT ["kinora"]
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
