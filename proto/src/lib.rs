//! Pregón's gRPC API: the generated code and its descriptor set.
