//! Bodies of the boot-session HTTP API.
