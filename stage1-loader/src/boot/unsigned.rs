//! An image that nobody has signed: what the screen says about it, and where it waits to be judged as a whole.

use std::io;

use fetch_http::{OpenedImage, PLAIN_PIECE, PlainFile, PlainSink};
use sparetire_manifest::{Digest, Manifest};

use super::image::Recorded;

/// What is to be fetched.
pub(super) enum Opened {
    /// An image of a store, with a verified manifest and index.
    Signed(Box<OpenedImage>),
    /// A plain file that the configuration describes.
    Unsigned {
        /// In the terms of a manifest.
        manifest: Box<Manifest>,
        /// Where it is, and its digest.
        file: PlainFile,
    },
}

impl Opened {
    pub(super) fn manifest(&self) -> &Manifest {
        match self {
            Self::Signed(opened) => &opened.manifest,
            Self::Unsigned { manifest, .. } => manifest,
        }
    }
}

impl PlainSink for Recorded<'_> {
    fn digest(&mut self) -> io::Result<Digest> {
        self.buffer.digest()
    }

    fn has(&self, piece: usize) -> bool {
        self.have.contains(&(piece as u64 * PLAIN_PIECE))
    }

    fn discard(&mut self) -> io::Result<()> {
        // Every byte is written again before anybody looks at it.
        self.have.clear();
        Ok(())
    }
}

/// Its URLs, fit to be shown.
pub(super) fn shown(file: &PlainFile) -> String {
    let urls = file.urls.iter().map(|url| fetch_http::public_url(url));
    urls.collect::<Vec<_>>().join(" ")
}

const WIDTH: usize = 70;

/// The warning, framed so that nobody takes it for one line of many.
pub(super) fn warning(file: &PlainFile) -> String {
    let digest = file.sha256.to_string();
    let mut lines = vec![
        "WARNING: THIS IMAGE IS NOT SIGNED".to_owned(),
        String::new(),
        "Nobody has vouched for it. This stage one was told to boot it by".to_owned(),
        "whoever configured it, and checks its SHA-256 and nothing else:".to_owned(),
        format!("  {}", digest.get(..32).unwrap_or_default()),
        format!("  {}", digest.get(32..).unwrap_or_default()),
    ];
    lines.extend(file.urls.iter().map(|url| fetch_http::public_url(url)));
    let bar = "!".repeat(WIDTH);
    let mut text = format!("\n{bar}\n");
    for line in lines {
        // Long URLs go on beyond the frame rather than being cut.
        text.push_str(&format!("!! {line:<width$} !!\n", width = WIDTH - 6));
    }
    text + &bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_a_frame_with_digest_and_urls() {
        let file = PlainFile {
            urls: vec!["http://user:hidden@host/live.iso".into()],
            size: 1,
            sha256: Digest::of(b"abc"),
        };
        let text = warning(&file);
        assert!(text.contains("NOT SIGNED"), "{text}");
        assert!(text.contains("ba7816bf8f01cfea414140de5dae2223"), "{text}");
        assert!(text.contains("http://host/live.iso") && !text.contains("hidden"));
        let lines: Vec<&str> = text.trim_start().lines().collect();
        assert!(
            lines
                .iter()
                .all(|line| line.len() == WIDTH && line.starts_with("!!") && line.ends_with("!!"))
        );
    }
}
