//! Fetching an image from servers that do anything. The input is a list of operations; the image never gets a wrong byte.
#![no_main]

use std::time::Duration;

use fetch::{Action, ConnectionFailure, Fetcher, Flow, Head, PLAIN_PIECE, Request, Settings, Sink};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use sparetire_manifest::index::{Chunk, PackRef, Place};
use sparetire_manifest::{Digest, Index, IndexRef};

#[derive(Debug, Clone, Arbitrary)]
enum Operation {
    Poll,
    Advance {
        milliseconds: u16,
    },
    /// The head that the request deserves.
    Head {
        request: u8,
    },
    OtherHead {
        request: u8,
        status: u16,
        range: Option<String>,
        length: Option<u16>,
        etag: Option<String>,
    },
    /// The next bytes of the pack.
    Body {
        request: u8,
        length: u8,
    },
    OtherBody {
        request: u8,
        bytes: Vec<u8>,
    },
    End {
        request: u8,
    },
    Lost {
        request: u8,
    },
}

/// Bytes of the image, and which of them were delivered.
struct Checked {
    image: Vec<u8>,
    seen: Vec<bool>,
    /// Whether each piece must be right when it comes. Those of a file without an index are judged as a whole.
    judges: bool,
}

impl Sink for Checked {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let range = offset as usize..offset as usize + bytes.len();
        assert!(
            !self.judges || self.image[range.clone()] == *bytes,
            "wrong bytes at {offset}"
        );
        assert!(
            !self.seen[range.clone()].iter().any(|seen| *seen),
            "delivered twice at {offset}"
        );
        self.seen[range].fill(true);
        Ok(())
    }
}

/// One zstd frame of 200 equal bytes (RFC 8878: magic, single segment, content size, last RLE block).
fn rle_frame(byte: u8) -> Vec<u8> {
    let block = 200u32 << 3 | 1 << 1 | 1;
    let [a, b, c, _] = block.to_le_bytes();
    vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 200, a, b, c, byte]
}

/// Two packs; the image has stored and compressed chunks, a hole, and one chunk twice.
fn image() -> (Vec<Vec<u8>>, Index, Vec<u8>) {
    let plain: Vec<u8> = (0..=255).collect();
    let packs = vec![
        [plain.clone(), rle_frame(b'a')].concat(),
        [vec![9; 300], rle_frame(b'b')].concat(),
    ];
    let pieces = [
        (plain.clone(), Place::Stored { pack: 0, offset: 0 }),
        (
            vec![b'a'; 200],
            Place::Zstd {
                pack: 0,
                offset: 256,
                stored_length: 10,
            },
        ),
        (vec![0; 500], Place::Hole),
        (vec![9; 300], Place::Stored { pack: 1, offset: 0 }),
        (
            vec![b'b'; 200],
            Place::Zstd {
                pack: 1,
                offset: 300,
                stored_length: 10,
            },
        ),
        (plain, Place::Stored { pack: 0, offset: 0 }),
    ];
    let chunk = |(bytes, place): &(Vec<u8>, Place)| Chunk {
        digest: Digest::of(bytes),
        length: bytes.len() as u32,
        place: *place,
    };
    let image: Vec<u8> = pieces
        .iter()
        .flat_map(|(bytes, _)| bytes)
        .copied()
        .collect();
    let index = Index {
        image_size: image.len() as u64,
        packs: packs
            .iter()
            .map(|pack| PackRef {
                sha256: Digest::of(pack),
                length: pack.len() as u64,
            })
            .collect(),
        chunks: pieces.iter().map(chunk).collect(),
    };
    (packs, index, image)
}

/// A request on its way, with what the honest server has sent of it.
struct Open {
    request: Request,
    pack: usize,
    sent: usize,
}

fuzz_target!(|operations: Vec<Operation>| {
    let (packs, index, image) = image();
    let bytes = index.emit();
    let reference = IndexRef {
        sha256: Digest::of(&bytes),
        size: bytes.len() as u64,
    };
    let index =
        Index::verify(&bytes, &reference, image.len() as u64).expect("our own index is sound");
    let holes: Vec<bool> = index
        .placed()
        .flat_map(|(_, chunk)| vec![chunk.place == Place::Hole; chunk.length as usize])
        .collect();
    let settings = Settings {
        connections: 3,
        deadline: Some(Duration::from_secs(600)),
        run: 200,
        ..Settings::default()
    };
    let fetcher =
        Fetcher::new(&index, 2, settings.clone(), 7).expect("our own index can be planned");
    run(fetcher, &packs, image, &holes, true, &operations);

    // The same servers with one file of which nothing is known but its length: three pieces, the last a short one.
    let image: Vec<u8> = (0..2 * PLAIN_PIECE as usize + 100)
        .map(|at| (at / 3) as u8)
        .collect();
    let fetcher =
        Fetcher::plain(image.len() as u64, 2, settings, 7).expect("the file has a length");
    let holes = vec![false; image.len()];
    run(fetcher, &[image.clone()], image, &holes, false, &operations);
});

fn run(
    mut fetcher: Fetcher<'_>,
    packs: &[Vec<u8>],
    image: Vec<u8>,
    holes: &[bool],
    judges: bool,
    operations: &[Operation],
) {
    let mut sink = Checked {
        seen: vec![false; image.len()],
        image,
        judges,
    };
    // So that the large pieces of a plain file get complete, too.
    let scale = if judges { 1 } else { 4096 };
    let mut open: Vec<Open> = Vec::new();
    let mut now = Duration::ZERO;
    for operation in operations.iter().cloned() {
        let pick = |open: &Vec<Open>, request: u8| {
            (!open.is_empty()).then(|| usize::from(request) % open.len())
        };
        let mut stopped = None;
        match operation {
            Operation::Poll => match fetcher.poll(now) {
                Action::Request(request) => {
                    let pack = if judges {
                        packs
                            .iter()
                            .position(|pack| request.path.contains(&Digest::of(pack).to_string()))
                            .expect("asks for packs only")
                    } else {
                        assert!(request.path.is_empty());
                        0
                    };
                    assert!(
                        request.range.start < request.range.end
                            && request.range.end <= packs[pack].len() as u64
                    );
                    assert!(
                        open.iter()
                            .all(|other| other.request.connection != request.connection)
                    );
                    open.push(Open {
                        request,
                        pack,
                        sent: 0,
                    });
                }
                Action::Cancel(id) => open.retain(|other| other.request.id != id),
                Action::Wait { until } => assert!(until > now, "waits for the past"),
                Action::Done => {
                    let complete = sink
                        .seen
                        .iter()
                        .zip(holes)
                        .all(|(seen, hole)| *seen != *hole);
                    assert!(complete, "done, and not everything came");
                    return;
                }
                Action::Failed(_) => return,
            },
            Operation::Advance { milliseconds } => {
                now += Duration::from_millis(milliseconds.into())
            }
            Operation::Head { request } => {
                if let Some(at) = pick(&open, request) {
                    let Open { request, pack, .. } = &open[at];
                    let head = Head {
                        status: 206,
                        content_range: Some(format!(
                            "bytes {}-{}/{}",
                            request.range.start,
                            request.range.end - 1,
                            packs[*pack].len()
                        )),
                        content_length: Some(request.range.end - request.range.start),
                        etag: Some(format!("\"{pack}\"")),
                        content_encoding: None,
                    };
                    stopped =
                        (fetcher.response(now, request.id, &head) == Flow::Stop).then_some(at);
                }
            }
            Operation::OtherHead {
                request,
                status,
                range,
                length,
                etag,
            } => {
                if let Some(at) = pick(&open, request) {
                    let head = Head {
                        status,
                        content_range: range,
                        content_length: length.map(u64::from),
                        etag,
                        content_encoding: None,
                    };
                    stopped = (fetcher.response(now, open[at].request.id, &head) == Flow::Stop)
                        .then_some(at);
                }
            }
            Operation::Body { request, length } => {
                if let Some(at) = pick(&open, request) {
                    let Open {
                        request,
                        pack,
                        sent,
                    } = &mut open[at];
                    let asked =
                        &packs[*pack][request.range.start as usize..request.range.end as usize];
                    let end = (*sent + usize::from(length) * scale).min(asked.len());
                    let flow = fetcher.body(now, request.id, &asked[*sent..end], &mut sink);
                    *sent = end;
                    stopped = (flow == Flow::Stop).then_some(at);
                }
            }
            Operation::OtherBody { request, bytes } => {
                if let Some(at) = pick(&open, request) {
                    let flow = fetcher.body(now, open[at].request.id, &bytes, &mut sink);
                    stopped = (flow == Flow::Stop).then_some(at);
                }
            }
            Operation::End { request } => {
                if let Some(at) = pick(&open, request) {
                    fetcher.end(now, open.remove(at).request.id);
                }
            }
            Operation::Lost { request } => {
                if let Some(at) = pick(&open, request) {
                    fetcher.error(now, open.remove(at).request.id, ConnectionFailure::Lost);
                }
            }
        }
        if let Some(at) = stopped {
            open.remove(at);
        }
        let progress = fetcher.progress(now);
        assert!(progress.done <= progress.total);
        // Three unfinished pieces, and what the decoder keeps.
        assert!(fetcher.held_bytes() <= 1 << 20);
        while fetcher.poll_event().is_some() {}
    }
}
