# Builds the image of one program:
#
#     docker build --build-arg PROGRAM=off-orders-service --tag off/off-orders-service .
#
# PROGRAM is off, off-etl, off-gateway, off-auth-service, off-users-service, off-orders-service,
# off-billing-service, off-notifications-service, off-operator-service or off-generator. One build stage compiles all of
# them, so that the second image takes a second. The build works on every architecture: with `docker buildx build
# --platform linux/amd64,linux/arm64` each image is built natively or under emulation.

ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-${DEBIAN} AS rust
WORKDIR /src
# Queries are checked against .sqlx, not against a database.
ENV SQLX_OFFLINE=true CARGO_TERM_COLOR=never

# For development, with mounted sources: a program is rebuilt and restarted when a source changes.
FROM rust AS dev
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo install --locked --root /usr/local --version 2.3.2 watchexec-cli
ENV CARGO_TARGET_DIR=/target OFF_LOG_FORMAT=pretty
COPY deploy/develop /usr/local/bin/develop
ENTRYPOINT ["develop"]

FROM rust AS chef
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo install --locked --version 0.1.78 cargo-chef \
    && cargo install --locked --version 0.7.4 cargo-auditable

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path /recipe.json

FROM chef AS build
# Links the C library statically, so that the images need none. The commands below name a target, so that these flags do
# not apply to macros and build scripts, which are loaded or run during the build.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN rustc --print host-tuple >/host
# Builds all dependencies, in a layer that is reused until one of them changes.
COPY --from=plan /recipe.json /recipe.json
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo chef cook --release --locked --target "$(cat /host)" --recipe-path /recipe.json --package off-cli --package off-etl \
        --package off-gateway --package off-auth-service --package off-users-service --package off-orders-service \
        --package off-billing-service --package off-notifications-service --package off-operator-service \
        --package off-generator
COPY . .
# cargo-auditable embeds the list of crates in each program, where scanners look for it.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo auditable build --release --locked --target "$(cat /host)" --bins --package off-cli --package off-etl \
        --package off-gateway --package off-auth-service --package off-users-service --package off-orders-service \
        --package off-billing-service --package off-notifications-service --package off-operator-service \
        --package off-generator \
    && mkdir /out /downloads \
    && for program in off off-etl off-gateway off-auth-service off-users-service off-orders-service \
           off-billing-service off-notifications-service off-operator-service off-generator; do \
           install --strip "target/$(cat /host)/release/$program" /out/; \
       done

# The image has no shell and no libraries, only certificates, time zones and the program.
FROM gcr.io/distroless/static-debian12:nonroot AS program
ARG PROGRAM=off
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="${PROGRAM}" \
      org.opencontainers.image.description="off keeps household shelves stocked without anyone shopping" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian12:nonroot"
COPY --from=build /out/${PROGRAM} /program
# The folder for exports that the importer downloads. A volume that is mounted here gets the same owner and mode; the
# program may run as another user.
COPY --from=build --chown=65532:65532 --chmod=1777 /downloads /downloads
ENTRYPOINT ["/program"]
