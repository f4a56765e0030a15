//! The WS-MAN port: HTTP as the firmware speaks it, classes, methods, faults.
