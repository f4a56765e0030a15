//! Builds stage-one ISOs and packages images.
//!
//! A library that also holds the subcommands `stage1`, `image` and `key`, so that the one
//! binary users run only has to list them.
