//! The chunk index: where each piece of an image lies in the packs of a store. Layout: `docs/formats/index.md`.
//!
//! Read: major version 1, also with longer headers and entries than this version writes. Written: version 1.0. Who controls
//! the bytes: nobody, once [`Index::verify`] compared them with the digest in a signed manifest; before that, the store.

use crate::{Digest, IndexRef, MAX_IMAGE, MAX_INDEX, Verified};

/// All chunks of an image, in image order, and the packs that hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Length of the image in bytes: the sum of all chunk lengths.
    pub image_size: u64,
    /// Packs that the chunks refer to by position.
    pub packs: Vec<PackRef>,
    /// Chunks in image order; a chunk starts where the one before it ends.
    pub chunks: Vec<Chunk>,
}

/// A pack: an immutable file of chunks back to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackRef {
    /// Digest of the whole pack, which is also its name.
    pub sha256: Digest,
    /// Length in bytes.
    pub length: u64,
}

/// A piece of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Digest of the piece as it stands in the image.
    pub digest: Digest,
    /// Its length in the image, 1 to [`MAX_CHUNK`] bytes.
    pub length: u32,
    /// Where to get it.
    pub place: Place,
}

/// Where a chunk's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nowhere: they are all zero.
    Hole,
    /// In a pack, as they are.
    Stored {
        /// Position in [`Index::packs`].
        pack: u32,
        /// First byte in the pack.
        offset: u64,
    },
    /// In a pack, as one zstd frame.
    Zstd {
        /// Position in [`Index::packs`].
        pack: u32,
        /// First byte in the pack.
        offset: u64,
        /// Length of the frame, less than that of the chunk.
        stored_length: u32,
    },
}

impl Chunk {
    /// The bytes to fetch: position of the pack, offset in it, length. Nothing for a hole.
    pub fn stored(&self) -> Option<(u32, u64, u32)> {
        match self.place {
            Place::Hole => None,
            Place::Stored { pack, offset } => Some((pack, offset, self.length)),
            Place::Zstd {
                pack,
                offset,
                stored_length,
            } => Some((pack, offset, stored_length)),
        }
    }
}

impl Index {
    /// Reads an index that a manifest names. The digest is compared before anything is parsed; the lengths must add up to
    /// the manifest's `size`. What comes out is as trustworthy as `reference` and `image_size` are.
    pub fn verify(
        bytes: &[u8],
        reference: &IndexRef,
        image_size: u64,
    ) -> Result<Verified<Self>, IndexError> {
        let found = bytes.len() as u64;
        if found != reference.size {
            return Err(IndexError::Length {
                wanted: reference.size,
                found,
            });
        }
        let found = Digest::of(bytes);
        if found != reference.sha256 {
            return Err(IndexError::Digest {
                wanted: reference.sha256,
                found,
            });
        }
        let index = Self::parse(bytes)?;
        if index.image_size != image_size {
            return Err(IndexError::OtherImage {
                wanted: image_size,
                found: index.image_size,
            });
        }
        Ok(Verified::by_digest(index))
    }

    /// Reads an index whose origin nobody checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.len() as u64 > MAX_INDEX {
            return Err(IndexError::TooLarge {
                found: bytes.len() as u64,
            });
        }
        let mut cursor = Cursor { rest: bytes };
        let header = Header::parse(&mut cursor)?;
        // Sizes are compared before anything is allocated; u64 products of u32 and u16 cannot overflow.
        let packs_len = u64::from(header.packs) * u64::from(header.pack_entry_len);
        let chunks_len = u64::from(header.chunks) * u64::from(header.chunk_entry_len);
        let found = cursor.rest.len() as u64;
        let needed = packs_len + chunks_len;
        if found < needed {
            return Err(IndexError::CutShort {
                what: "entries",
                needed,
                found,
            });
        }
        if found > needed {
            return Err(IndexError::Leftover {
                bytes: found - needed,
            });
        }
        let mut packs = Vec::with_capacity(header.packs as usize);
        for _ in 0..header.packs {
            packs.push(parse_pack(
                &mut cursor.sub("pack entry", header.pack_entry_len.into())?,
            )?);
        }
        let mut chunks = Vec::with_capacity(header.chunks as usize);
        for at in 0..header.chunks {
            chunks.push(parse_chunk(
                &mut cursor.sub("chunk entry", header.chunk_entry_len.into())?,
                at,
            )?);
        }
        let index = Self {
            image_size: header.image_size,
            packs,
            chunks,
        };
        index.check()?;
        Ok(index)
    }

    /// Whether every length is in range and every stored run inside its pack. Readers always ask; writers should.
    pub fn check(&self) -> Result<(), IndexError> {
        if self.image_size > MAX_IMAGE {
            return Err(IndexError::ImageSize {
                found: self.image_size,
            });
        }
        for (at, pack) in self.packs.iter().enumerate() {
            if pack.length == 0 || pack.length > MAX_IMAGE {
                return Err(IndexError::PackLength {
                    pack: at,
                    found: pack.length,
                });
            }
        }
        let mut total = 0u64;
        for (at, chunk) in self.chunks.iter().enumerate() {
            if chunk.length == 0 || chunk.length > MAX_CHUNK {
                return Err(IndexError::ChunkLength {
                    chunk: at,
                    found: chunk.length,
                });
            }
            if let Place::Zstd { stored_length, .. } = chunk.place
                && !(1..chunk.length).contains(&stored_length)
            {
                return Err(IndexError::StoredLength {
                    chunk: at,
                    stored: stored_length,
                    length: chunk.length,
                });
            }
            if let Some((pack, offset, length)) = chunk.stored() {
                let Some(PackRef {
                    length: pack_length,
                    ..
                }) = self.packs.get(pack as usize)
                else {
                    return Err(IndexError::NoSuchPack {
                        chunk: at,
                        pack,
                        packs: self.packs.len(),
                    });
                };
                if offset
                    .checked_add(length.into())
                    .is_none_or(|end| end > *pack_length)
                {
                    return Err(IndexError::OutsidePack {
                        chunk: at,
                        offset,
                        length,
                        pack_length: *pack_length,
                    });
                }
            }
            // At most 2^32 chunks of 2^20 bytes: no overflow.
            total += u64::from(chunk.length);
        }
        if total != self.image_size {
            return Err(IndexError::Sum {
                wanted: self.image_size,
                found: total,
            });
        }
        Ok(())
    }

    /// The bytes of this index. One that does not pass [`Index::check`] gives bytes that [`Index::parse`] refuses.
    pub fn emit(&self) -> Vec<u8> {
        let entries = self.packs.len() * PACK_ENTRY_LEN + self.chunks.len() * CHUNK_ENTRY_LEN;
        let mut out = Vec::with_capacity(HEADER_LEN + entries);
        let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX).to_le_bytes();
        out.extend(MAGIC);
        out.extend(MAJOR.to_le_bytes());
        out.extend(MINOR.to_le_bytes());
        out.extend((HEADER_LEN as u16).to_le_bytes());
        out.extend((PACK_ENTRY_LEN as u16).to_le_bytes());
        out.extend((CHUNK_ENTRY_LEN as u16).to_le_bytes());
        out.extend([0; 6]);
        out.extend(self.image_size.to_le_bytes());
        out.extend(count(self.packs.len()));
        out.extend(count(self.chunks.len()));
        out.resize(HEADER_LEN, 0);
        for pack in &self.packs {
            out.extend(pack.sha256.as_bytes());
            out.extend(pack.length.to_le_bytes());
        }
        for chunk in &self.chunks {
            let codec = match chunk.place {
                Place::Hole => CODEC_HOLE,
                Place::Stored { .. } => CODEC_STORED,
                Place::Zstd { .. } => CODEC_ZSTD,
            };
            let (pack, offset, stored_length) = chunk.stored().unwrap_or_default();
            out.extend(chunk.digest.as_bytes());
            out.extend(chunk.length.to_le_bytes());
            out.extend([codec, 0, 0, 0]);
            out.extend(pack.to_le_bytes());
            out.extend(stored_length.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out
    }

    /// Chunks with their offsets in the image.
    pub fn placed(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.chunks.iter().scan(0u64, |next, chunk| {
            let offset = *next;
            *next = next.saturating_add(chunk.length.into());
            Some((offset, chunk))
        })
    }
}

struct Header {
    pack_entry_len: u16,
    chunk_entry_len: u16,
    image_size: u64,
    packs: u32,
    chunks: u32,
}

impl Header {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, IndexError> {
        if cursor.take::<8>("magic")? != MAGIC {
            return Err(IndexError::Magic);
        }
        let (major, minor) = (cursor.u16("major version")?, cursor.u16("minor version")?);
        if major != MAJOR {
            return Err(IndexError::Unsupported { major, minor });
        }
        let header_len = cursor.u16("header length")?;
        let header = Self {
            pack_entry_len: cursor.u16("pack entry length")?,
            chunk_entry_len: cursor.u16("chunk entry length")?,
            image_size: {
                cursor.take::<6>("reserved")?;
                cursor.u64("image size")?
            },
            packs: cursor.u32("pack count")?,
            chunks: cursor.u32("chunk count")?,
        };
        cursor.take::<24>("reserved")?;
        for (what, found, least) in [
            ("header", header_len, HEADER_LEN),
            ("pack entry", header.pack_entry_len, PACK_ENTRY_LEN),
            ("chunk entry", header.chunk_entry_len, CHUNK_ENTRY_LEN),
        ] {
            if usize::from(found) < least {
                return Err(IndexError::RecordLength { what, found, least });
            }
        }
        cursor.sub("header", usize::from(header_len) - HEADER_LEN)?;
        Ok(header)
    }
}

fn parse_pack(cursor: &mut Cursor<'_>) -> Result<PackRef, IndexError> {
    let sha256 = Digest::from_bytes(cursor.take("pack digest")?);
    Ok(PackRef {
        sha256,
        length: cursor.u64("pack length")?,
    })
}

fn parse_chunk(cursor: &mut Cursor<'_>, at: u32) -> Result<Chunk, IndexError> {
    let digest = Digest::from_bytes(cursor.take("chunk digest")?);
    let length = cursor.u32("chunk length")?;
    let [codec, ..] = cursor.take::<4>("codec")?;
    let (pack, stored_length) = (cursor.u32("pack")?, cursor.u32("stored length")?);
    let offset = cursor.u64("offset in pack")?;
    let chunk = at as usize;
    let place = match codec {
        CODEC_HOLE if (pack, stored_length, offset) == (0, 0, 0) => Place::Hole,
        CODEC_HOLE => {
            return Err(IndexError::StoredLength {
                chunk,
                stored: stored_length,
                length: 0,
            });
        }
        CODEC_STORED if stored_length == length => Place::Stored { pack, offset },
        CODEC_STORED => {
            return Err(IndexError::StoredLength {
                chunk,
                stored: stored_length,
                length,
            });
        }
        CODEC_ZSTD => Place::Zstd {
            pack,
            offset,
            stored_length,
        },
        codec => return Err(IndexError::UnknownCodec { chunk, codec }),
    };
    Ok(Chunk {
        digest,
        length,
        place,
    })
}

/// Bytes taken one after another; each take succeeds or names what was missing.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], IndexError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| self.short(what, N))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next `length` bytes, of which the caller need not take all.
    fn sub(&mut self, what: &'static str, length: usize) -> Result<Cursor<'a>, IndexError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.short(what, length))?;
        self.rest = rest;
        Ok(Cursor { rest: taken })
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, IndexError> {
        self.take(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, IndexError> {
        self.take(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, IndexError> {
        self.take(what).map(u64::from_le_bytes)
    }

    fn short(&self, what: &'static str, needed: usize) -> IndexError {
        IndexError::CutShort {
            what,
            needed: needed as u64,
            found: self.rest.len() as u64,
        }
    }
}

/// Why bytes are no index, or not the one that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Not as long as the manifest says.
    #[error("index of {found} bytes instead of {wanted}")]
    Length {
        /// Length in the manifest.
        wanted: u64,
        /// Length found.
        found: u64,
    },
    /// Not the bytes that the manifest names.
    #[error("index has digest {found} instead of {wanted}")]
    Digest {
        /// Digest in the manifest.
        wanted: Digest,
        /// Digest found.
        found: Digest,
    },
    /// Describes an image of another length than the manifest.
    #[error("index is for an image of {found} bytes instead of {wanted}")]
    OtherImage {
        /// Length in the manifest.
        wanted: u64,
        /// Length in the index.
        found: u64,
    },
    /// Longer than any that is read.
    #[error("index of {found} bytes, at most {max} allowed", max = MAX_INDEX)]
    TooLarge {
        /// Length found.
        found: u64,
    },
    /// Does not start like an index.
    #[error("no chunk index: wrong magic")]
    Magic,
    /// Made for a newer reader.
    #[error("index version {major}.{minor} is not supported by this version")]
    Unsupported {
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// Ends too early.
    #[error("index is cut short in {what}: {needed} bytes needed, {found} left")]
    CutShort {
        /// The part that is missing.
        what: &'static str,
        /// Bytes it needs.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Goes on after its end.
    #[error("{bytes} bytes after the last entry")]
    Leftover {
        /// How many.
        bytes: u64,
    },
    /// A record shorter than version 1 defines it.
    #[error("{what} of {found} bytes, at least {least} needed")]
    RecordLength {
        /// Which record.
        what: &'static str,
        /// Length in the header.
        found: u16,
        /// Length that version 1 needs.
        least: usize,
    },
    /// An image larger than any that is read.
    #[error("image of {found} bytes, at most {max} allowed", max = MAX_IMAGE)]
    ImageSize {
        /// Length found.
        found: u64,
    },
    /// An empty or absurdly long pack.
    #[error("pack {pack} of {found} bytes")]
    PackLength {
        /// Position of the pack.
        pack: usize,
        /// Length found.
        found: u64,
    },
    /// An empty or absurdly long chunk.
    #[error("chunk {chunk} of {found} bytes, allowed are 1 to {max}", max = MAX_CHUNK)]
    ChunkLength {
        /// Position of the chunk.
        chunk: usize,
        /// Length found.
        found: u32,
    },
    /// A way of storing chunks that this version does not know.
    #[error("chunk {chunk} uses unknown codec {codec}")]
    UnknownCodec {
        /// Position of the chunk.
        chunk: usize,
        /// The codec's number.
        codec: u8,
    },
    /// A stored length that does not go with the codec.
    #[error("chunk {chunk} of {length} bytes takes {stored} in its pack")]
    StoredLength {
        /// Position of the chunk.
        chunk: usize,
        /// Length in the pack.
        stored: u32,
        /// Length in the image; 0 for a hole, which takes none.
        length: u32,
    },
    /// Refers to a pack that is not listed.
    #[error("chunk {chunk} is in pack {pack} of {packs}")]
    NoSuchPack {
        /// Position of the chunk.
        chunk: usize,
        /// The pack it names.
        pack: u32,
        /// How many packs are listed.
        packs: usize,
    },
    /// Leaves its pack.
    #[error(
        "chunk {chunk} at {offset}, {length} bytes long, leaves its pack of {pack_length} bytes"
    )]
    OutsidePack {
        /// Position of the chunk.
        chunk: usize,
        /// First byte in the pack.
        offset: u64,
        /// Length in the pack.
        length: u32,
        /// Length of the pack.
        pack_length: u64,
    },
    /// The chunks do not fill the image.
    #[error("chunks add up to {found} bytes, the image has {wanted}")]
    Sum {
        /// Length of the image.
        wanted: u64,
        /// Sum of the chunks.
        found: u64,
    },
}

/// Longest chunk, in bytes.
pub const MAX_CHUNK: u32 = 1 << 20;
/// First bytes of every index.
pub const MAGIC: [u8; 8] = *b"SPTRINDX";
/// Length of the header that version 1.0 writes.
pub const HEADER_LEN: usize = 64;
const MAJOR: u16 = 1;
const MINOR: u16 = 0;
const PACK_ENTRY_LEN: usize = 40;
const CHUNK_ENTRY_LEN: usize = 56;
const CODEC_HOLE: u8 = 0;
const CODEC_STORED: u8 = 1;
const CODEC_ZSTD: u8 = 2;
