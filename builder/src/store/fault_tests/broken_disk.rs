//! A disk that ends a writer's work at a chosen operation.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::disk::{Fate, Faults, Operation};

/// How the work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The operation fails; those after it work.
    Error,
    /// The process dies before the operation, in the middle of it for a write.
    Killed,
    /// As killed, and nothing that was not synced is left.
    PowerCut,
}

#[derive(Debug)]
pub(super) struct BrokenDisk {
    ending: Ending,
    at: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    is_dead: bool,
    /// Files with bytes that were not synced.
    loose: BTreeSet<PathBuf>,
    /// How to take back names that were not synced, oldest first.
    undo: Vec<Undo>,
}

/// Takes one change of a folder back.
#[derive(Debug)]
struct Undo {
    /// Syncing this folder makes the change durable.
    dir: PathBuf,
    how: How,
}

#[derive(Debug)]
enum How {
    Remove(PathBuf),
    Restore(PathBuf, Vec<u8>),
    MakeDir(PathBuf),
    MoveBack {
        from: PathBuf,
        to: PathBuf,
        replaced: Option<Vec<u8>>,
    },
}

impl BrokenDisk {
    pub(super) fn new(ending: Ending, at: u64) -> Arc<Self> {
        Arc::new(Self {
            ending,
            at,
            state: Mutex::default(),
        })
    }

    pub(super) fn operations(&self) -> u64 {
        self.state.lock().unwrap().operations
    }

    /// The writer is gone: what was not synced goes as well, if the power was cut.
    pub(super) fn end(&self) {
        let mut state = self.state.lock().unwrap();
        if self.ending != Ending::PowerCut || !state.is_dead {
            return;
        }
        for path in std::mem::take(&mut state.loose) {
            fs::write(path, "").unwrap();
        }
        while let Some(Undo { how, .. }) = state.undo.pop() {
            // What is gone with a folder that went before needs no undoing.
            let _ = match how {
                How::Remove(path) if path.is_dir() => fs::remove_dir_all(path),
                How::Remove(path) => fs::remove_file(path),
                How::Restore(path, bytes) => fs::write(path, bytes),
                How::MakeDir(path) => fs::create_dir(path),
                How::MoveBack { from, to, replaced } => {
                    let moved = fs::rename(&to, from);
                    if let Some(bytes) = replaced {
                        fs::write(to, bytes).unwrap();
                    }
                    moved
                }
            };
        }
    }
}

impl State {
    fn remember(&mut self, path: &Path, how: How) {
        self.undo.push(Undo {
            dir: path.parent().unwrap().to_owned(),
            how,
        });
    }

    fn record(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::CreateDir(path) => self.remember(path, How::Remove(path.to_owned())),
            Operation::CreateFile(path) => {
                self.loose.insert(path.to_owned());
                self.remember(path, How::Remove(path.to_owned()));
            }
            Operation::Write(path) => {
                self.loose.insert(path.to_owned());
            }
            Operation::SyncFile(path) => {
                self.loose.remove(path);
            }
            Operation::Rename(from, to) => {
                if !from.exists() {
                    return;
                }
                let replaced = fs::read(to).ok();
                let loose = std::mem::take(&mut self.loose);
                self.loose = loose.iter().map(|path| moved(path, from, to)).collect();
                let how = How::MoveBack {
                    from: from.to_owned(),
                    to: to.to_owned(),
                    replaced,
                };
                self.remember(to, how);
            }
            Operation::RemoveFile(path) => {
                self.loose.remove(path);
                if let Ok(bytes) = fs::read(path) {
                    self.remember(path, How::Restore(path.to_owned(), bytes));
                }
            }
            Operation::RemoveDir(path) => self.remember(path, How::MakeDir(path.to_owned())),
            Operation::SyncDir(dir) => self.make_durable(dir),
        }
    }

    fn make_durable(&mut self, dir: &Path) {
        let mut kept: Vec<Undo> = Vec::new();
        for undo in std::mem::take(&mut self.undo) {
            if undo.dir != dir {
                kept.push(undo);
            } else if let How::MoveBack { from, to, .. } = &undo.how {
                // It stays where it is now, also if the folder it was made in is never synced; and what happened
                // inside before happened there.
                kept.retain(|earlier| !matches!(&earlier.how, How::Remove(path) if path == from));
                for earlier in &mut kept {
                    earlier.dir = moved(&earlier.dir, from, to);
                    match &mut earlier.how {
                        How::Remove(path) | How::Restore(path, _) | How::MakeDir(path) => {
                            *path = moved(path, from, to);
                        }
                        How::MoveBack {
                            from: earlier_from,
                            to: earlier_to,
                            ..
                        } => {
                            *earlier_from = moved(earlier_from, from, to);
                            *earlier_to = moved(earlier_to, from, to);
                        }
                    }
                }
            }
        }
        self.undo = kept;
    }
}

fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

impl Faults for BrokenDisk {
    fn before(&self, operation: Operation<'_>) -> Fate {
        let error = || io::Error::other("the disk is broken");
        let mut state = self.state.lock().unwrap();
        if state.is_dead {
            return Fate::Failed(error());
        }
        state.operations += 1;
        if state.operations == self.at {
            state.is_dead = self.ending != Ending::Error;
            return match operation {
                Operation::Write(_) => Fate::Torn(error()),
                _ => Fate::Failed(error()),
            };
        }
        if self.ending == Ending::PowerCut {
            state.record(operation);
        }
        match operation {
            // Nothing here outlives the test: syncing for real would only take time.
            Operation::SyncFile(_) | Operation::SyncDir(_) => Fate::Skipped,
            _ => Fate::Done,
        }
    }
}
