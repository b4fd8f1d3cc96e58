"""The results of a study: rows, the scores behind them, their protocol, the ledger that writes both."""
