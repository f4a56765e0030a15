//! From a name to a verified manifest and index, past stores that are stale, damaged or hostile.

use std::sync::atomic::{AtomicBool, Ordering};

use fetch_http::{
    HttpClient, HttpFailure, HttpOptions, OpenCause, OpenError, OpenStage, OpenedImage, open_image,
};
use sparetire_manifest::{Digest, MAX_MANIFEST, Timestamp, VerifyError, layout};

use crate::server::{Answer, Server};
use crate::store::{NOW, Store, VERSION};

async fn open(
    store: &Store,
    servers: &[&Server],
    version: Option<u64>,
    min_version: Option<u64>,
    now: Timestamp,
) -> Result<OpenedImage, OpenError> {
    let client = HttpClient::new(&HttpOptions::default()).unwrap();
    let sources: Vec<String> = servers.iter().map(|server| server.url.clone()).collect();
    open_image(
        &client,
        &sources,
        &store.keys,
        &store.name,
        version,
        min_version,
        now,
    )
    .await
}

/// How opening fails when the only store has these files.
async fn failure(store: &Store) -> (OpenStage, OpenCause) {
    let server = Server::honest(&store.files).await;
    let mut error = open(store, &[&server], None, None, NOW).await.unwrap_err();
    assert_eq!(error.failures.len(), 1);
    let failure = error.failures.remove(0);
    assert_eq!(failure.source, format!("{}/", server.url));
    (error.stage, failure.cause)
}

#[tokio::test]
async fn finds_the_newest_version_or_the_one_asked_for() {
    let store = Store::new(5);
    let server = Server::honest(&store.files).await;
    for version in [None, Some(VERSION)] {
        let opened = open(&store, &[&server], version, Some(VERSION), NOW)
            .await
            .unwrap();
        assert_eq!(*opened.manifest, store.manifest);
        assert_eq!(*opened.index, *store.index);
    }
    // A version asked for by number does not need the pointer.
    let paths: Vec<String> = server
        .asked()
        .iter()
        .map(|asked| asked.target.clone())
        .collect();
    assert_eq!(paths.len(), 5 + 3, "{paths:?}");
}

#[tokio::test]
async fn goes_on_to_the_next_store_at_each_step() {
    let store = Store::new(5);
    let mut damaged = Store::new(5).files;
    // Signed by someone else; and an index of another image.
    damaged.insert(
        layout::index_path(&store.name, VERSION),
        vec![0; 500].into(),
    );
    let damaged = Server::honest(&damaged).await;
    let dead = Server::start(&store.files, |_, _| Answer::Raw(Vec::new())).await;
    let honest = Server::honest(&store.files).await;
    let opened = open(&store, &[&dead, &damaged, &honest], None, None, NOW)
        .await
        .unwrap();
    assert_eq!(*opened.manifest, store.manifest);
}

#[tokio::test]
async fn refuses_a_manifest_of_another_key() {
    let store = Store::new(5);
    let mut other = Store::new(5);
    other.keys = store.keys;
    let (stage, cause) = failure(&other).await;
    assert_eq!(stage, OpenStage::Latest);
    assert!(
        matches!(cause, OpenCause::Verify(VerifyError::UnknownKey { .. })),
        "{cause:?}"
    );
}

#[tokio::test]
async fn refuses_changed_files() {
    let name = Store::new(2).name;
    let flip = |path: String| {
        let mut store = Store::new(5);
        let mut bytes = store.files[&path].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        store.put(&path, bytes);
        store
    };
    let (stage, cause) = failure(&flip(layout::latest_path(&name))).await;
    assert_eq!(stage, OpenStage::Latest);
    assert!(
        matches!(cause, OpenCause::Verify(VerifyError::BadSignature { .. })),
        "{cause:?}"
    );
    let (stage, cause) = failure(&flip(layout::manifest_path(&name, VERSION))).await;
    assert_eq!(stage, OpenStage::Manifest);
    assert!(
        matches!(cause, OpenCause::Verify(VerifyError::BadSignature { .. })),
        "{cause:?}"
    );
    let (stage, cause) = failure(&flip(layout::index_path(&name, VERSION))).await;
    assert_eq!(stage, OpenStage::Index);
    assert!(matches!(cause, OpenCause::Index(_)), "{cause:?}");
}

#[tokio::test]
async fn a_pointer_replaced_between_two_requests_is_asked_for_again() {
    let store = Store::new(5);
    let is_first = AtomicBool::new(true);
    let server = Server::start(&store.files, move |asked, _| {
        // The pointer does not suit its signature once.
        if asked.target.ends_with("latest.json") && is_first.swap(false, Ordering::Relaxed) {
            Answer::WrongBit(9)
        } else {
            Answer::Serve
        }
    })
    .await;
    open(&store, &[&server], None, None, NOW).await.unwrap();
    assert_eq!(server.asked().len(), 2 + 5);
}

#[tokio::test]
async fn refuses_an_old_version_an_old_pointer_and_a_switched_manifest() {
    let store = Store::new(5);
    let server = Server::honest(&store.files).await;
    for version in [None, Some(VERSION)] {
        let error = open(&store, &[&server], version, Some(VERSION + 1), NOW)
            .await
            .unwrap_err();
        assert!(error.is_verification());
        let cause = &error.failures[0].cause;
        assert!(
            matches!(cause, OpenCause::Verify(VerifyError::RolledBack { .. })),
            "{cause:?}"
        );
    }
    let error = open(
        &store,
        &[&server],
        None,
        None,
        Timestamp::from_unix(NOW.unix() + 3600),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(
            error.failures[0].cause,
            OpenCause::Verify(VerifyError::Expired { .. })
        ),
        "{error}"
    );

    // Both manifests are signed by the right key, and have the same name and version.
    let mut switched = Store::new(5);
    let mut manifest = switched.manifest.clone();
    manifest.sha256 = Digest::of(b"other");
    let path = layout::manifest_path(&switched.name, VERSION);
    switched.put_signed(&path, manifest.to_json(), &manifest.trusted_comment());
    let (stage, cause) = failure(&switched).await;
    assert_eq!(stage, OpenStage::Manifest);
    assert!(
        matches!(cause, OpenCause::Verify(VerifyError::OtherManifest { .. })),
        "{cause:?}"
    );
}

#[tokio::test]
async fn refuses_oversized_files_unread() {
    let mut store = Store::new(5);
    let path = layout::latest_path(&store.name);
    store.put(&path, vec![b' '; MAX_MANIFEST + 1]);
    let (stage, cause) = failure(&store).await;
    assert_eq!(stage, OpenStage::Latest);
    assert!(
        matches!(&cause, OpenCause::Http(error) if error.what == HttpFailure::TooLarge { limit: MAX_MANIFEST }),
        "{cause:?}"
    );
}

#[tokio::test]
async fn tells_unreachable_from_unbelievable() {
    let store = Store::new(5);
    let dead = Server::start(&store.files, |_, _| Answer::Raw(Vec::new())).await;
    let missing = Server::start(&store.files, |_, _| Answer::Status(404)).await;
    let other = Server::honest(&Store::new(5).files).await;
    let error = open(&store, &[&dead], None, None, NOW).await.unwrap_err();
    assert!(error.is_unreachable() && !error.is_verification());
    let error = open(&store, &[&dead, &missing], None, None, NOW)
        .await
        .unwrap_err();
    assert!(!error.is_unreachable() && !error.is_verification());
    let error = open(&store, &[&dead, &other], None, None, NOW)
        .await
        .unwrap_err();
    assert!(!error.is_unreachable() && error.is_verification());
    let said = error.to_string();
    assert!(
        said.starts_with("newest version of image rescue: http://127.0.0.1:"),
        "{said}"
    );
    assert!(
        said.contains("connection lost; http://") && said.contains("not trusted"),
        "{said}"
    );
}
