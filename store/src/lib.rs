//! Pregón's store: traits by caller, engines behind them, one conformance suite.
