# The binary and nothing else. Public authorities for receivers are compiled in; for rediss:// with a private or public
# authority give --redis-ca-file.
FROM rust:1.95-bookworm AS build
WORKDIR /pregon
COPY . .
RUN cargo build --release --locked --bin pregon

FROM debian:bookworm-slim
COPY --from=build /pregon/target/release/pregon /usr/local/bin/pregon
# Nothing is written: no volume, and no user of its own beyond one that is not root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/pregon"]
