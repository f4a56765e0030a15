//! What a virtual PC is made of: its TOML file.
