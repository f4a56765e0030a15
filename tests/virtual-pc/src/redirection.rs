//! The redirection ports: sessions, IDE-R, SOL, KVM, from the firmware's side.
