//! The PC itself: QEMU, its power, drives, serial port and display.
