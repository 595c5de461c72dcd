//! Pregón's data plane: snapshot, publish, claim, fan-out, attempt, egress.

pub mod egress;
