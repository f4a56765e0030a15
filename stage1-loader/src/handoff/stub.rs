//! Which instructions lead from the running kernel's last jump to the next kernel?
//!
//! `kexec_load` enters a segment in 64-bit mode with identity-mapped memory and interrupts off.
//! The boot protocol (`Documentation/arch/x86/boot.rst`, "64-bit boot protocol") also wants a
//! descriptor table with flat segments at 0x10 (code) and 0x18 (data) and the address of
//! `struct boot_params` in RSI. Position: one physical address, chosen by the caller.

/// Offset of the descriptor table in the stub.
const GDT_AT: usize = 0x40;
/// Length of the stub.
pub(super) const LEN: usize = GDT_AT + 4 * 8;

/// The stub for physical address `address`: RSI = `boot_params`, jump to `entry`.
pub(super) fn entry_64(address: u64, boot_params: u64, entry: u64) -> [u8; LEN] {
    let [p0, p1, p2, p3, p4, p5, p6, p7] = boot_params.to_le_bytes();
    let [e0, e1, e2, e3, e4, e5, e6, e7] = entry.to_le_bytes();
    let [g0, g1, g2, g3, g4, g5, g6, g7] = (address + GDT_AT as u64).to_le_bytes();
    #[rustfmt::skip]
    let bytes = [
        0xfa,                                           // 00 cli
        0xfc,                                           // 01 cld
        0x0f, 0x01, 0x15, 0x2d, 0, 0, 0,                // 02 lgdt [rip + 0x2d] -> 0x36
        0xb8, 0x18, 0, 0, 0,                            // 09 mov eax, 0x18
        0x8e, 0xd8,                                     // 0e mov ds, eax
        0x8e, 0xc0,                                     // 10 mov es, eax
        0x8e, 0xd0,                                     // 12 mov ss, eax
        0x8e, 0xe0,                                     // 14 mov fs, eax
        0x8e, 0xe8,                                     // 16 mov gs, eax
        0x48, 0xbe, p0, p1, p2, p3, p4, p5, p6, p7,     // 18 mov rsi, boot_params
        0x48, 0xb8, e0, e1, e2, e3, e4, e5, e6, e7,     // 22 mov rax, entry
        0xff, 0xe0,                                     // 2c jmp rax
        0, 0, 0, 0, 0, 0, 0, 0,                         // 2e
        0x1f, 0x00,                                     // 36 limit: four descriptors
        g0, g1, g2, g3, g4, g5, g6, g7,                 // 38 base
        0, 0, 0, 0, 0, 0, 0, 0,                         // 40 null
        0, 0, 0, 0, 0, 0, 0, 0,                         // 48 unused
        0xff, 0xff, 0, 0, 0, 0x9b, 0xaf, 0,             // 50 0x10: code, 64-bit, execute and read
        0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0,             // 58 0x18: data, 4 GiB, read and write
    ];
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_is_these_bytes() {
        let stub = entry_64(0x1000, 0x1122_3344_5566_7788, 0x0000_0001_0000_0200);
        let golden = "fa fc 0f01152d000000 b818000000 8ed8 8ec0 8ed0 8ee0 8ee8 \
             48be8877665544332211 48b80002000001000000 ffe0 0000000000000000 \
             1f00 4010000000000000 \
             0000000000000000 0000000000000000 ffff0000009baf00 ffff00000093cf00"
            .replace(' ', "");
        let hex: String = stub.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
    }

    #[test]
    fn a_disassembler_reads_what_was_meant() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("stub");
        std::fs::write(&file, entry_64(0x1000, 0x9000, 0x100_0200)).unwrap();
        let output = std::process::Command::new("objdump")
            .args(["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel"])
            .arg("--stop-address=0x2e")
            .arg(&file)
            .output();
        let Ok(output) = output else {
            eprintln!("SKIPPED: objdump is missing (package binutils)");
            return;
        };
        let listing = String::from_utf8(output.stdout).unwrap();
        let words = listing.split_whitespace().collect::<Vec<_>>().join(" ");
        for instruction in [
            "cli",
            "cld",
            "lgdt [rip+0x2d] # 0x36",
            "mov eax,0x18",
            "mov ds,eax",
            "mov es,eax",
            "mov ss,eax",
            "mov fs,eax",
            "mov gs,eax",
            "movabs rsi,0x9000",
            "movabs rax,0x1000200",
            "jmp rax",
        ] {
            assert!(words.contains(instruction), "{instruction} in {listing}");
        }
    }
}
