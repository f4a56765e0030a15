//! The server over a real Unix socket, with a device in memory.

use super::*;
use std::sync::Mutex;

struct Memory {
    content: Mutex<Vec<u8>>,
    broken: bool,
}

impl Memory {
    fn new(broken: bool) -> Arc<Self> {
        let content = (0..8192u32).map(|at| (at / 512) as u8).collect();
        Arc::new(Memory {
            content: Mutex::new(content),
            broken,
        })
    }
}

impl BlockDevice for Memory {
    fn export(&self) -> Option<Export> {
        Some(Export {
            size: 8192,
            block_size: 512,
            writable: true,
        })
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if self.broken {
            return Err(io::Error::other("no medium"));
        }
        let offset = offset as usize;
        Ok(self.content.lock().unwrap()[offset..offset + length].to_vec())
    }

    async fn write(&self, offset: u64, data: Vec<u8>) -> io::Result<()> {
        let offset = offset as usize;
        self.content.lock().unwrap()[offset..offset + data.len()].copy_from_slice(&data);
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

async fn connect(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream
        .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0")
        .await
        .unwrap();
    let mut greeting = [0; 18 + 10];
    stream.read_exact(&mut greeting).await.unwrap();
    stream
}

fn request(kind: u8, offset: u8, length: u32) -> Vec<u8> {
    let mut bytes = vec![0x25, 0x60, 0x95, 0x13, 0, 0, 0, kind];
    bytes.extend([9; 8]);
    bytes.extend((u64::from(offset) * 512).to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

#[tokio::test]
async fn what_was_written_is_read_back_by_another_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nbd");
    let _server = Server::listen(&path, Memory::new(false)).unwrap();
    let mut first = connect(&path).await;
    let mut write = request(1, 3, 512);
    write.extend([0xee; 512]);
    first.write_all(&write).await.unwrap();
    let mut reply = [0; 16];
    first.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[4..8], [0; 4]);

    let mut second = connect(&path).await;
    second.write_all(&request(0, 2, 1024)).await.unwrap();
    let mut reply = [0; 16 + 1024];
    second.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[4..8], [0; 4]);
    assert_eq!(reply[16..528], [2; 512]);
    assert_eq!(reply[528..], [0xee; 512]);
}

#[tokio::test]
async fn a_failing_drive_is_an_io_error_and_the_connection_lives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nbd");
    let _server = Server::listen(&path, Memory::new(true)).unwrap();
    let mut stream = connect(&path).await;
    for _ in 0..2 {
        stream.write_all(&request(0, 0, 512)).await.unwrap();
        let mut reply = [0; 16];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply[4..8], [0, 0, 0, 5]);
    }
}

#[tokio::test]
async fn a_dropped_server_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nbd");
    let server = Server::listen(&path, Memory::new(false)).unwrap();
    let mut stream = connect(&path).await;
    drop(server);
    assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert!(UnixStream::connect(&path).await.is_err());
}
