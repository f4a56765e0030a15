//! Image manifest, chunk index and signature envelope; no I/O.
