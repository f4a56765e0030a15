//! CD and floppy command sets as a redirected drive answers them; no I/O.
