//! Standard INQUIRY data, 36 bytes (SPC-3 6.4.2).

use super::{AnswerError, Cursor};

/// Who a drive says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// 0x00 direct access (floppy), 0x05 CD or DVD.
    pub device_type: u8,
    /// The medium can be taken out.
    pub removable: bool,
    /// Vendor, padding removed.
    pub vendor: String,
    /// Product, padding removed.
    pub product: String,
    /// Revision, padding removed.
    pub revision: String,
}

impl Inquiry {
    /// Reads 36 bytes or more.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let [device_type, flags, _, _, _, _, _, _] = cursor.take("inquiry header")?;
        Ok(Self {
            device_type: device_type & 0x1f,
            removable: flags & 0x80 != 0,
            vendor: text(cursor.slice("vendor", 8)?),
            product: text(cursor.slice("product", 16)?),
            revision: text(cursor.slice("revision", 4)?),
        })
    }
}

pub(crate) fn inquiry(device_type: u8, product: &[u8; 16]) -> Vec<u8> {
    let mut bytes = vec![
        device_type,
        0x80, // removable
        0x00, // no standard claimed, as ATAPI drives do
        0x21, // ATAPI version 2, response data format 1
        31,   // bytes that follow
        0,
        0,
        0,
    ];
    bytes.extend(b"sparetir");
    bytes.extend(product);
    bytes.extend(b"1.0 ");
    bytes
}

fn text(field: &[u8]) -> String {
    let text: String = field
        .iter()
        .map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '?',
        })
        .collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_data_reads_back_and_needs_all_its_bytes() {
        let bytes = inquiry(5, b"Virtual CD-ROM  ");
        assert_eq!(bytes[..8], [0x05, 0x80, 0x00, 0x21, 0x1f, 0, 0, 0]);
        assert_eq!(bytes.len(), 36);
        let inquiry = Inquiry::parse(&bytes).unwrap();
        assert_eq!(inquiry.device_type, 5);
        assert!(inquiry.removable);
        assert_eq!(inquiry.product, "Virtual CD-ROM");
        for length in 0..bytes.len() {
            assert!(Inquiry::parse(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_text() {
        let mut bytes = inquiry(0, b"Virtual Floppy  ");
        bytes[8..12].copy_from_slice(b"\x1b[2J");
        assert_eq!(Inquiry::parse(&bytes).unwrap().vendor, "?[2Jetir");
    }
}
