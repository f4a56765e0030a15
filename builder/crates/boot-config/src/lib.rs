//! Boot configuration of Linux ISOs: isolinux, GRUB, BLS; no I/O.
