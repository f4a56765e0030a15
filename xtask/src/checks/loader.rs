//! The loader: an executable that runs as PID 1 with nothing else in the file system.
//!
//! ELF-64 and System V ABI, AMD64 supplement. What is refused: another machine, anything
//! that asks for an interpreter or shared libraries, position-independent code (its
//! relocations cost bytes on the slow link), symbols and debug sections (the same).

use anyhow::{Context, Result, bail};
use goblin::elf::Elf;
use goblin::elf::header::{EM_X86_64, ET_DYN, ET_EXEC};
use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP, PT_LOAD};
use goblin::elf::section_header::SHT_SYMTAB;

/// Checks an executable's bytes.
pub(super) fn executable(bytes: &[u8]) -> Result<()> {
    let elf = Elf::parse(bytes).context("reading it as ELF")?;
    if !elf.is_64 || !elf.little_endian || elf.header.e_machine != EM_X86_64 {
        bail!(
            "it is for another machine than x86-64 (ELF machine {})",
            elf.header.e_machine
        );
    }
    for header in &elf.program_headers {
        match header.p_type {
            PT_INTERP => bail!(
                "it asks for an interpreter: {}",
                elf.interpreter.unwrap_or("unreadable")
            ),
            PT_DYNAMIC => bail!(
                "it is linked dynamically (needs: {})",
                elf.libraries.join(", ")
            ),
            _ => {}
        }
    }
    match elf.header.e_type {
        ET_EXEC => {}
        ET_DYN => bail!("it is position-independent"),
        other => bail!("it is no executable (ELF type {other})"),
    }
    let entered = |header: &goblin::elf::ProgramHeader| {
        header.p_type == PT_LOAD
            && header.is_executable()
            && header.vm_range().contains(&(elf.entry as usize))
    };
    if !elf.program_headers.iter().any(entered) {
        bail!(
            "its entry point {:#x} is in no executable segment",
            elf.entry
        );
    }
    for section in &elf.section_headers {
        let name = elf.shdr_strtab.get_at(section.sh_name).unwrap_or("");
        if section.sh_type == SHT_SYMTAB || name.starts_with(".debug") {
            bail!("it is not stripped: it has a section {name}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest right one: a header and one executable segment that covers the file.
    fn right() -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(b"\x7fELF\x02\x01\x01"); // ELF-64, little-endian, version 1
        file.extend([0; 9]); // ABI, padding
        file.extend(2u16.to_le_bytes()); // e_type: ET_EXEC
        file.extend(62u16.to_le_bytes()); // e_machine: EM_X86_64
        file.extend(1u32.to_le_bytes()); // e_version
        file.extend(0x40_0078u64.to_le_bytes()); // e_entry
        file.extend(64u64.to_le_bytes()); // e_phoff
        file.extend(0u64.to_le_bytes()); // e_shoff
        file.extend(0u32.to_le_bytes()); // e_flags
        file.extend(64u16.to_le_bytes()); // e_ehsize
        file.extend(56u16.to_le_bytes()); // e_phentsize
        file.extend(1u16.to_le_bytes()); // e_phnum
        file.extend([0; 6]); // no section headers
        file.extend(1u32.to_le_bytes()); // p_type: PT_LOAD
        file.extend(5u32.to_le_bytes()); // p_flags: read, execute
        file.extend(0u64.to_le_bytes()); // p_offset
        file.extend(0x40_0000u64.to_le_bytes()); // p_vaddr
        file.extend(0x40_0000u64.to_le_bytes()); // p_paddr
        file.extend(121u64.to_le_bytes()); // p_filesz
        file.extend(121u64.to_le_bytes()); // p_memsz
        file.extend(4096u64.to_le_bytes()); // p_align
        file.push(0xf4); // hlt
        file
    }

    fn refusal(bytes: &[u8]) -> String {
        format!("{:#}", executable(bytes).unwrap_err())
    }

    #[test]
    fn accepts_a_static_stripped_executable() {
        executable(&right()).unwrap();
    }

    #[test]
    fn refuses_each_wrong_header_by_its_own_name() {
        let patched = |offset: usize, value: u8| {
            let mut file = right();
            file[offset] = value;
            refusal(&file)
        };
        assert!(patched(18, 183).contains("another machine"), "AArch64");
        assert!(patched(16, 3).contains("position-independent"), "ET_DYN");
        assert!(patched(16, 1).contains("no executable"), "ET_REL");
        assert!(patched(64, 2).contains("dynamically"), "PT_DYNAMIC");
        assert!(patched(64, 3).contains("interpreter"), "PT_INTERP");
        assert!(
            patched(68, 4).contains("entry point"),
            "segment that cannot be executed"
        );
    }

    #[test]
    fn refuses_symbols() {
        let mut file = right();
        // One section header, of a symbol table, at the end of the file.
        let at = file.len() as u64;
        file.extend(0u32.to_le_bytes()); // sh_name
        file.extend(2u32.to_le_bytes()); // sh_type: SHT_SYMTAB
        file.extend([0; 56]); // the rest: empty
        file[40..48].copy_from_slice(&at.to_le_bytes()); // e_shoff
        file[58..60].copy_from_slice(&64u16.to_le_bytes()); // e_shentsize
        file[60..62].copy_from_slice(&1u16.to_le_bytes()); // e_shnum
        assert!(refusal(&file).contains("not stripped"));
    }

    #[test]
    fn refuses_every_truncation() {
        let file = right();
        for length in 0..120 {
            executable(&file[..length]).unwrap_err();
        }
    }

    #[test]
    fn refuses_this_test_program_because_it_is_dynamic() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(refusal(&own).contains("interpreter"));
    }
}
