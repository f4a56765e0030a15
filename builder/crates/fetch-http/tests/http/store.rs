//! A small signed store, made up on the spot.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fetch_http::Sink;
use minisign::KeyPair;
use sparetire_manifest::{
    BootRecipe, Chunk, Digest, ImageKind, ImageName, Index, IndexRef, Latest, LinuxBoot, Manifest,
    Medium, NamedExtent, PackRef, Place, Placement, Timestamp, TrustedKeys, Verified, layout,
};

pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
pub(crate) const VERSION: u64 = 20_270_115_080_000;

/// Files by path, as a server has them.
pub(crate) type Files = BTreeMap<String, Arc<[u8]>>;

pub(crate) struct Store {
    pub(crate) name: ImageName,
    pub(crate) image: Vec<u8>,
    pub(crate) index: Verified<Index>,
    pub(crate) keys: TrustedKeys,
    pub(crate) files: Files,
    pub(crate) manifest: Manifest,
    signer: KeyPair,
}

impl Store {
    /// An image of `chunks` chunks of 64 KiB: a hole, then by turns noise and text that compresses.
    pub(crate) fn new(chunks: usize) -> Self {
        const LENGTH: usize = 64 << 10;
        let mut image = vec![0; LENGTH];
        let mut pack = Vec::new();
        let mut listed = vec![Chunk {
            digest: Digest::of(&image),
            length: 64 << 10,
            place: Place::Hole,
        }];
        for number in 1..chunks {
            let offset = pack.len() as u64;
            let (plain, place) = if number % 2 == 1 {
                let plain = noise(number as u64, LENGTH);
                pack.extend_from_slice(&plain);
                (plain, Place::Stored { pack: 0, offset })
            } else {
                let plain: Vec<u8> = noise(number as u64, LENGTH / 4)
                    .into_iter()
                    .flat_map(|byte| [byte; 4])
                    .collect();
                let frame = zstd::bulk::compress(&plain, 3).unwrap();
                pack.extend_from_slice(&frame);
                let stored_length = u32::try_from(frame.len()).unwrap();
                (
                    plain,
                    Place::Zstd {
                        pack: 0,
                        offset,
                        stored_length,
                    },
                )
            };
            listed.push(Chunk {
                digest: Digest::of(&plain),
                length: 64 << 10,
                place,
            });
            image.extend_from_slice(&plain);
        }
        let size = image.len() as u64;
        let packs = vec![PackRef {
            sha256: Digest::of(&pack),
            length: pack.len() as u64,
        }];
        let index_bytes = Index {
            image_size: size,
            packs,
            chunks: listed,
        }
        .emit();
        let reference = IndexRef {
            sha256: Digest::of(&index_bytes),
            size: index_bytes.len() as u64,
        };
        let index = Index::verify(&index_bytes, &reference, size).unwrap();

        let name: ImageName = "rescue".parse().unwrap();
        let manifest = Manifest {
            format: 1,
            name: name.clone(),
            version: VERSION,
            label: None,
            description: None,
            kind: ImageKind::LinuxIso,
            created: NOW,
            expires: None,
            size,
            sha256: Digest::of(&image),
            index: reference,
            boot: BootRecipe::Linux(LinuxBoot {
                kernel: NamedExtent {
                    path: "/vmlinuz".into(),
                    offset: 0,
                    length: 4096,
                },
                initrd: Vec::new(),
                cmdline: "quiet".into(),
                medium: Medium::None,
                placement: Placement::Initramfs,
            }),
            min_ram: None,
            firmware: Vec::new(),
        };
        let signer = KeyPair::generate_unencrypted_keypair().unwrap();
        let public = signer.pk.to_base64();
        let keys = TrustedKeys::parse([public.as_str()].into_iter()).unwrap();
        let mut store = Self {
            name,
            image,
            index,
            keys,
            files: Files::new(),
            manifest,
            signer,
        };
        store.put(&layout::pack_path(&Digest::of(&pack)), pack);
        store.put(
            &layout::index_path(&store.name.clone(), VERSION),
            index_bytes,
        );
        let manifest = store.manifest.clone();
        store.put_manifest(&manifest);
        store
    }

    pub(crate) fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(path.to_owned(), bytes.into());
    }

    pub(crate) fn put_signed(&mut self, path: &str, bytes: Vec<u8>, comment: &str) {
        let signature =
            minisign::sign(None, &self.signer.sk, bytes.as_slice(), Some(comment), None).unwrap();
        self.put(
            &layout::signature_path(path),
            signature.into_string().into_bytes(),
        );
        self.put(path, bytes);
    }

    /// Signs a manifest, and a `latest.json` that points to it.
    pub(crate) fn put_manifest(&mut self, manifest: &Manifest) {
        let bytes = manifest.to_json();
        let path = layout::manifest_path(&self.name, VERSION);
        let latest = Latest {
            format: 1,
            name: self.name.clone(),
            version: VERSION,
            manifest: Digest::of(&bytes),
            issued: NOW,
            expires: Timestamp::from_unix(NOW.unix() + 3600),
        };
        self.put_signed(&path, bytes, &manifest.trusted_comment());
        let path = layout::latest_path(&self.name);
        self.put_signed(&path, latest.to_json(), &latest.trusted_comment());
    }

    /// Writes all files below a folder.
    pub(crate) fn write_to(&self, root: &Path) {
        for (path, bytes) in &self.files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// An image in memory that refuses chunks outside it.
pub(crate) struct Ram(pub(crate) Vec<u8>);

impl Ram {
    pub(crate) fn for_image(store: &Store) -> Self {
        Self(vec![0; store.image.len()])
    }
}

impl Sink for Ram {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(next).collect()
}
