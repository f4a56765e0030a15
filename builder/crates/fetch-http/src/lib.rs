//! Drives the fetch state machine over HTTP(S).
