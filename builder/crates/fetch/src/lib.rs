//! Which bytes to ask for next, from whom, and what came back wrong: a state machine without I/O.
