//! Pregón's control plane: one file per gRPC service.
