//! Entry to KVM: one message each way, then RFB in both directions (reference, section 7.1).
//!
//! Console `40` and seven zeros, firmware `41` and seven zeros. Firmware often sends its RFB banner in the
//! same segment, so exactly eight bytes are to be taken off and the rest passed on.

/// What the console sends after authentication.
pub const ENTER: [u8; 8] = [0x40, 0, 0, 0, 0, 0, 0, 0];

/// What firmware answers.
pub const ENTERED: [u8; 8] = [0x41, 0, 0, 0, 0, 0, 0, 0];
