//! How all hand-written messages are checked.

/// A message against its bytes: decodes, encodes, asks for more at every cut, and does not mind what follows.
macro_rules! golden {
    ($decode:path, $message:expr, $bytes:expr) => {{
        let bytes: &[u8] = $bytes;
        let message = $message;
        let expected = Decoded::Message {
            message,
            length: bytes.len(),
        };
        assert_eq!($decode(bytes), Ok(expected), "{bytes:02x?}");
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(encoded, bytes, "{message:02x?}");
        for cut in 0..bytes.len() {
            assert_eq!(
                $decode(&bytes[..cut]),
                Ok(Decoded::NeedMore),
                "{message:?} cut at {cut}"
            );
        }
        let mut followed = bytes.to_vec();
        followed.extend_from_slice(&[0xaa; 40]);
        assert_eq!(
            $decode(&followed),
            Ok(expected),
            "{message:?} with bytes after it"
        );
    }};
}

pub(crate) use golden;
