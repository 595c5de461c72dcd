//! What every gRPC server of Pregón needs, once.
