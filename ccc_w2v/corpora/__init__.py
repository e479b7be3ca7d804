"""One file per corpus: fetch, prepare, check."""
