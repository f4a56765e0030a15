//! Intel AMT redirection on the wire: sessions, IDE-R, SOL, KVM; no I/O.
