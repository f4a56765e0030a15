//! Media events: GET EVENT STATUS NOTIFICATION, polled (MMC-5 6.7.2).

use super::{AnswerError, Cursor};

/// What the drive has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventStatus {
    /// None of the classes asked for is supported, or (as consoles use it) nothing to tell.
    pub no_event: bool,
    /// Class of the event; 4 is media.
    pub class: u8,
    /// Classes that the drive supports, as a bit mask.
    pub supported: u8,
    /// Media event code and media status, when the answer has them.
    pub media: Option<MediaEvent>,
}

/// Body of a media event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaEvent {
    /// 0 no change, 1 eject request, 2 new medium, 3 medium removed.
    pub code: u8,
    /// A medium is in.
    pub present: bool,
    /// The tray is open.
    pub tray_open: bool,
}

impl EventStatus {
    /// Reads the header, and the media event behind it if there is one.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let length = u16::from_be_bytes(cursor.take("event length")?);
        let [class, supported] = cursor.take("event class")?;
        let no_event = class & 0x80 != 0;
        let class = class & 7;
        let media = if !no_event && class == CLASS_MEDIA && length >= 6 {
            let [code, status, _, _] = cursor.take("media event")?;
            Some(MediaEvent {
                code: code & 0x0f,
                present: status & 2 != 0,
                tray_open: status & 1 != 0,
            })
        } else {
            None
        };
        Ok(Self {
            no_event,
            class,
            supported,
            media,
        })
    }
}

/// The eight bytes of the standard: no change, medium in or not.
pub(crate) fn event_status(present: bool) -> Vec<u8> {
    let status = if present { 2 } else { 0 };
    vec![0, 6, CLASS_MEDIA, 1 << CLASS_MEDIA, 0, status, 0, 0]
}

/// The four bytes that consoles have always sent: "no event", with a length that depends on the medium.
pub(crate) fn event_status_short(present: bool) -> Vec<u8> {
    if present {
        vec![0, 2, 0x80, 0]
    } else {
        vec![0, 0, 0x80, 0]
    }
}

const CLASS_MEDIA: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_form_tells_whether_a_medium_is_in() {
        for present in [false, true] {
            let bytes = event_status(present);
            let status = EventStatus::parse(&bytes).unwrap();
            assert!(!status.no_event);
            assert_eq!(status.supported, 0x10);
            let media = MediaEvent {
                code: 0,
                present,
                tray_open: false,
            };
            assert_eq!(status.media, Some(media));
            for length in 0..8 {
                assert!(EventStatus::parse(&bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn short_form_is_no_event() {
        for present in [false, true] {
            let status = EventStatus::parse(&event_status_short(present)).unwrap();
            assert!(status.no_event);
            assert_eq!(status.media, None);
        }
    }
}
