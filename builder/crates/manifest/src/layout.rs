//! Where files stand inside a store. Paths are relative, with `/`, and need no escaping in a URL.

use crate::{Digest, ImageName};

/// The signed pointer to an image's newest version.
pub fn latest_path(name: &ImageName) -> String {
    format!("images/{name}/latest.json")
}

/// The folder of one version of an image.
pub fn version_dir(name: &ImageName, version: u64) -> String {
    format!("images/{name}/{version}")
}

/// The signed description of one version of an image.
pub fn manifest_path(name: &ImageName, version: u64) -> String {
    format!("images/{name}/{version}/manifest.json")
}

/// The chunk index of one version of an image.
pub fn index_path(name: &ImageName, version: u64) -> String {
    format!("images/{name}/{version}/index")
}

/// The minisign signature beside a signed file.
pub fn signature_path(path: &str) -> String {
    format!("{path}.minisig")
}

/// A pack, named by the SHA-256 of its bytes.
pub fn pack_path(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("packs/{}/{hex}.pack", &hex[..2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_format_page() {
        let name: ImageName = "debian-12".parse().unwrap();
        assert_eq!(latest_path(&name), "images/debian-12/latest.json");
        assert_eq!(version_dir(&name, 7), "images/debian-12/7");
        assert_eq!(
            manifest_path(&name, 20_261_121_235_400),
            "images/debian-12/20261121235400/manifest.json"
        );
        assert_eq!(index_path(&name, 7), "images/debian-12/7/index");
        assert_eq!(
            signature_path(&latest_path(&name)),
            "images/debian-12/latest.json.minisig"
        );
        assert_eq!(
            pack_path(&Digest::of(b"abc")),
            "packs/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.pack",
        );
    }
}
