//! What a step inside the engine fails with, before it becomes a caller's [`StoreError`].
//!
//! Anything that a step answers in the ordinary way (a conflict, a lost lease) is part of its
//! value. A fault means that the database could not do it; the step's writes are rolled back.

use rusqlite::ErrorCode;

use crate::StoreError;

/// A step that could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::embedded) enum Fault {
    /// There is no room.
    Full(String),
    /// Reading or writing failed.
    Io(String),
    /// Something stored cannot be read.
    Corrupt(String),
}

/// The result of a step.
pub(in crate::embedded) type Result<T> = std::result::Result<T, Fault>;

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        let text = error.to_string();
        if let E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) = error {
            return Fault::Corrupt(text);
        }
        if let E::InvalidColumnType(..) | E::Utf8Error(..) = error {
            return Fault::Corrupt(text);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Corrupt(text),
            Some(_) | None => Fault::Io(text),
        }
    }
}

impl From<postcard::Error> for Fault {
    fn from(error: postcard::Error) -> Self {
        Fault::Corrupt(error.to_string())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full(text) => StoreError::Full(text),
            Fault::Io(text) => StoreError::Unavailable(text),
            Fault::Corrupt(text) => StoreError::Corrupt(text),
        }
    }
}
