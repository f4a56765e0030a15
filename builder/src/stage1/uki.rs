//! Unified kernel image: an EFI stub program with the kernel, its command line and the initramfs
//! appended as PE sections.
//!
//! Spec: UAPI.5 "Unified Kernel Image"; PE/COFF, Microsoft, sections "Optional Header" and
//! "Section Table". Written: `.osrel`, `.cmdline`, `.linux`, `.initrd`. Not written: signatures,
//! splash, device tree, PCR policies. The stub is systemd's, from the package `systemd-boot-efi`.

use goblin::pe::PE;
use thiserror::Error;

/// One section to append.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Name with its dot, at most 8 bytes.
    pub name: &'a str,
    /// Contents as the stub will find them in memory.
    pub data: &'a [u8],
    /// Alignment of the data in the file, in bytes: a multiple of the stub's own file alignment.
    pub file_alignment: usize,
}

/// Appends `sections` to `stub`, in order.
pub fn assemble(stub: &[u8], sections: &[Section<'_>]) -> Result<Vec<u8>, UkiError> {
    let layout = Layout::of(stub)?;
    let table_end = layout.table + (layout.count + sections.len()) * SECTION_HEADER;
    if table_end > layout.headers_end {
        return Err(UkiError::NoHeaderRoom {
            needed: table_end,
            available: layout.headers_end,
        });
    }
    let mut out = stub.to_vec();
    let mut address = layout.next_address;
    for (number, section) in sections.iter().enumerate() {
        if section.name.len() > 8 {
            return Err(UkiError::SectionName {
                name: section.name.to_owned(),
            });
        }
        let file_alignment = section.file_alignment.max(layout.file_alignment);
        let offset = out.len().next_multiple_of(file_alignment);
        let raw_size = section.data.len().next_multiple_of(layout.file_alignment);
        out.resize(offset, 0);
        out.extend_from_slice(section.data);
        out.resize(offset + raw_size, 0);

        let header = layout.table + (layout.count + number) * SECTION_HEADER;
        let mut name = [0; 8];
        name[..section.name.len()].copy_from_slice(section.name.as_bytes());
        out[header..header + 8].copy_from_slice(&name);
        put_u32(&mut out, header + 8, section.data.len())?; // VirtualSize
        put_u32(&mut out, header + 12, address)?; // VirtualAddress
        put_u32(&mut out, header + 16, raw_size)?; // SizeOfRawData
        put_u32(&mut out, header + 20, offset)?; // PointerToRawData
        out[header + 24..header + 36].fill(0); // no relocations, no line numbers
        out[header + 36..header + 40].copy_from_slice(&INITIALIZED_READ.to_le_bytes());
        address = (address + section.data.len().max(1)).next_multiple_of(layout.section_alignment);
    }
    let count = u16::try_from(layout.count + sections.len()).map_err(|_| UkiError::TooLarge)?;
    out[layout.count_field..layout.count_field + 2].copy_from_slice(&count.to_le_bytes());
    put_u32(&mut out, layout.optional + 56, address)?; // SizeOfImage
    put_u32(&mut out, layout.optional + 64, 0)?; // CheckSum: optional, and now wrong
    Ok(out)
}

/// Why a stub could not be extended.
#[derive(Debug, Error)]
pub enum UkiError {
    /// The stub is no PE program.
    #[error("EFI stub is not a PE program")]
    NotPe(#[source] goblin::error::Error),
    /// A PE program, but not a 64-bit EFI one.
    #[error("EFI stub is not a 64-bit PE program with an optional header")]
    Not64Bit,
    /// A header field points outside the file.
    #[error("EFI stub header field {field} is out of range")]
    Header {
        /// Which field.
        field: &'static str,
    },
    /// The section table cannot grow.
    #[error(
        "EFI stub has no room for more section headers: {needed} bytes needed, {available} available"
    )]
    NoHeaderRoom {
        /// End of the table with the new headers.
        needed: usize,
        /// Where the first section's data starts.
        available: usize,
    },
    /// PE section names have 8 bytes.
    #[error("section name {name:?} is longer than 8 bytes")]
    SectionName {
        /// The name.
        name: String,
    },
    /// PE fields are 32 bits wide.
    #[error("the unified kernel image would exceed 4 GiB")]
    TooLarge,
}

/// Offsets of the fields to change, and where new sections may go.
struct Layout {
    count_field: usize,
    count: usize,
    optional: usize,
    table: usize,
    headers_end: usize,
    file_alignment: usize,
    section_alignment: usize,
    next_address: usize,
}

impl Layout {
    fn of(stub: &[u8]) -> Result<Self, UkiError> {
        let pe = PE::parse(stub).map_err(UkiError::NotPe)?;
        let windows = match &pe.header.optional_header {
            Some(optional) if pe.is_64 => optional.windows_fields,
            _ => return Err(UkiError::Not64Bit),
        };
        let signature = pe.header.dos_header.pe_pointer as usize;
        let table = signature + 24 + usize::from(pe.header.coff_header.size_of_optional_header);
        let first_data = pe
            .sections
            .iter()
            .map(|s| s.pointer_to_raw_data)
            .filter(|&p| p != 0)
            .min();
        let headers_end = first_data.ok_or(UkiError::Header {
            field: "PointerToRawData",
        })? as usize;
        let file_alignment = power_of_two(windows.file_alignment, "FileAlignment")?;
        let section_alignment = power_of_two(windows.section_alignment, "SectionAlignment")?;
        let end = pe
            .sections
            .iter()
            .map(|s| u64::from(s.virtual_address) + u64::from(s.virtual_size))
            .max();
        let next_address = usize::try_from(end.unwrap_or(0)).map_err(|_| UkiError::TooLarge)?;
        if headers_end > stub.len() {
            return Err(UkiError::Header {
                field: "PointerToRawData",
            });
        }
        Ok(Self {
            count_field: signature + 6,
            count: pe.sections.len(),
            optional: signature + 24,
            table,
            headers_end,
            file_alignment,
            section_alignment,
            next_address: next_address.next_multiple_of(section_alignment),
        })
    }
}

fn power_of_two(value: u32, field: &'static str) -> Result<usize, UkiError> {
    if value.is_power_of_two() && value <= 1 << 20 {
        Ok(value as usize)
    } else {
        Err(UkiError::Header { field })
    }
}

fn put_u32(out: &mut [u8], offset: usize, value: usize) -> Result<(), UkiError> {
    let value = u32::try_from(value).map_err(|_| UkiError::TooLarge)?;
    out[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Bytes of one section header.
const SECTION_HEADER: usize = 40;
/// IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const INITIALIZED_READ: u32 = 0x4000_0040;

#[cfg(test)]
mod tests {
    use super::*;

    const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

    #[test]
    fn appended_sections_are_found_by_another_reader() {
        let Ok(stub) = std::fs::read(STUB) else {
            eprintln!("SKIPPED: {STUB} is absent; install systemd-boot-efi");
            return;
        };
        let sections = [
            Section {
                name: ".cmdline",
                data: b"quiet\0",
                file_alignment: 1,
            },
            Section {
                name: ".initrd",
                data: &[9; 5000],
                file_alignment: 2048,
            },
        ];
        let uki = assemble(&stub, &sections).unwrap();
        let pe = PE::parse(&uki).unwrap();
        for section in &sections {
            let found = pe
                .sections
                .iter()
                .find(|s| s.name().unwrap() == section.name)
                .unwrap();
            let start = found.pointer_to_raw_data as usize;
            assert_eq!(start % section.file_alignment, 0);
            assert_eq!(found.virtual_size as usize, section.data.len());
            assert_eq!(&uki[start..start + section.data.len()], section.data);
        }
        let mut ranges: Vec<_> = pe
            .sections
            .iter()
            .map(|s| (s.virtual_address, s.virtual_address + s.virtual_size))
            .collect();
        ranges.sort_unstable();
        assert!(
            ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "sections overlap in memory"
        );
        let image = pe
            .header
            .optional_header
            .unwrap()
            .windows_fields
            .size_of_image;
        assert!(ranges.iter().all(|range| range.1 <= image));
    }

    #[test]
    fn refuses_what_is_no_pe_program() {
        assert!(matches!(assemble(b"MZ", &[]), Err(UkiError::NotPe(_))));
        assert!(assemble(&[0; 4096], &[]).is_err());
    }
}
