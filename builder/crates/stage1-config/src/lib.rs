//! The config slot of stage one: schema, location, patching; no I/O.
