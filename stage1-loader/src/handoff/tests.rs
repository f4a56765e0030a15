//! Which method is tried when, and what is left behind, with a kernel that refuses to order.

use std::cell::RefCell;
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::buffer::tests::{manifest, memory, plan};
use super::machine::tests::write_machine;
use super::setup_header::tests::synthetic;
use super::*;
use fetch::Sink;
use sparetire_manifest::Medium;

#[derive(Default)]
struct FauxKernel {
    refuse_files: Option<i32>,
    refuse_segments: Option<i32>,
    calls: RefCell<Vec<String>>,
}

fn answer(refuse: Option<i32>, call: &str) -> Result<(), SysError> {
    refuse.map_or(Ok(()), |errno| {
        Err(SysError {
            call: call.into(),
            errno,
        })
    })
}

impl Kexec for FauxKernel {
    fn file_load(
        &self,
        kernel: &File,
        initramfs: Option<&File>,
        cmdline: &CStr,
    ) -> Result<(), SysError> {
        let mut magic = [0; 4];
        kernel.read_exact_at(&mut magic, 0x202).unwrap();
        assert_eq!(&magic, b"HdrS");
        initramfs.unwrap().read_exact_at(&mut magic, 0).unwrap();
        assert_eq!(&magic, b"0707");
        self.calls.borrow_mut().push(format!("files {cmdline:?}"));
        answer(self.refuse_files, "kexec_file_load()")
    }

    fn load(&self, _entry: u64, segments: &[Segment<'_>]) -> Result<(), SysError> {
        self.calls
            .borrow_mut()
            .push(format!("{} segments", segments.len()));
        answer(self.refuse_segments, "kexec_load()")
    }

    fn unload(&self) -> Result<(), SysError> {
        self.calls.borrow_mut().push("unload".into());
        Ok(())
    }
}

/// Runs `load_by` with a small image and returns the calls that the kernel saw.
fn run(
    kernel: &FauxKernel,
    methods: &[Method],
    kernel_file: &[u8],
) -> (Result<Loaded, HandOffError>, Vec<String>) {
    let root = tempfile::tempdir().unwrap();
    write_machine(root.path(), true);
    let machine = Machine::read(root.path()).unwrap();
    let mut watch = MemoryWatch::start(root.path()).unwrap();
    let memory = MemoryPlan {
        methods: methods.to_vec(),
        ..memory(None)
    };
    let plan = plan(Some("sparetire.iso"), Vec::new());
    let mut buffer = ImageBuffer::new(&manifest(20_000, Medium::LiveBoot), &plan, &memory).unwrap();
    buffer.chunk(4096, kernel_file).unwrap();
    let result = load_by(kernel, &mut buffer, &machine, &memory, &mut watch);
    (result, kernel.calls.take())
}

const BOTH: [Method; 2] = [Method::KexecFileLoad, Method::KexecLoad];

#[test]
fn the_first_method_that_works_is_the_last_that_is_tried() {
    let (result, calls) = run(&FauxKernel::default(), &BOTH, &synthetic(5000));
    assert_eq!(result.unwrap().method, Method::KexecFileLoad);
    assert_eq!(calls, ["files \"quiet boot=live\""]);
}

#[test]
fn a_refused_method_is_followed_by_the_other_one() {
    let kernel = FauxKernel {
        refuse_files: Some(libc::ENOSYS),
        ..FauxKernel::default()
    };
    let (result, calls) = run(&kernel, &BOTH, &synthetic(5000));
    let loaded = result.unwrap();
    assert_eq!(loaded.method, Method::KexecLoad);
    assert_eq!(
        loaded.refused[0].to_string(),
        "by kexec_file_load: kexec_file_load() = -1 ENOSYS (Function not implemented)"
    );
    // Archive, two initrds, kernel, boot parameters.
    assert_eq!(calls, ["files \"quiet boot=live\"", "5 segments"]);

    let kernel = FauxKernel {
        refuse_segments: Some(libc::EPERM),
        ..FauxKernel::default()
    };
    let (result, calls) = run(&kernel, &[BOTH[1], BOTH[0]], &synthetic(5000));
    assert_eq!(result.unwrap().method, Method::KexecFileLoad);
    assert_eq!(calls, ["5 segments", "files \"quiet boot=live\""]);
}

#[test]
fn when_nothing_works_nothing_stays_loaded_and_every_cause_is_named() {
    let kernel = FauxKernel {
        refuse_files: Some(libc::ENOEXEC),
        refuse_segments: Some(libc::EPERM),
        ..FauxKernel::default()
    };
    let (result, calls) = run(&kernel, &BOTH, &synthetic(5000));
    assert_eq!(
        result.unwrap_err().to_string(),
        "no way to load the next kernel: \
         by kexec_file_load: kexec_file_load() = -1 ENOEXEC (Exec format error); \
         by kexec_load: kexec_load() = -1 EPERM (Operation not permitted)"
    );
    assert_eq!(calls.last().unwrap(), "unload");
}

#[test]
fn a_kernel_that_is_none_is_named_before_any_segment_is_loaded() {
    let mut kernel_file = synthetic(5000);
    kernel_file[0x206] = 0;
    let (result, calls) = run(&FauxKernel::default(), &[Method::KexecLoad], &kernel_file);
    assert_eq!(
        result.unwrap_err().to_string(),
        "no way to load the next kernel: by kexec_load: \
         reading the kernel's setup header: boot protocol 2.00, 2.12 needed"
    );
    assert_eq!(calls, ["unload"]);
}
