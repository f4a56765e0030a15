//! What the management firmware knows and decides, without I/O.
