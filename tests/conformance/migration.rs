//! Files that are not a store of this program: refused with the reason, and left as they are.

use agentmux::store::Store;
use rusqlite::Connection;

fn file(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("mail.db")
}

#[test]
fn an_empty_file_becomes_a_store_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::File::create(file(&dir)).expect("the store's file");
    drop(Store::open(&file(&dir)).expect("it becomes a store"));
    let first = std::fs::read(file(&dir)).expect("the file");
    drop(Store::open(&file(&dir)).expect("it opens again"));
    assert_eq!(std::fs::read(file(&dir)).expect("the file"), first, "opening changes nothing");
}

/// A store of a newer version is not touched: not a byte, and no file beside it is left.
#[test]
fn a_newer_store_is_refused_and_untouched() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::File::create(file(&dir)).expect("the store's file");
    drop(Store::open(&file(&dir)).expect("it becomes a store"));
    let newer = Connection::open(file(&dir)).expect("SQLite opens it");
    newer.pragma_update(None, "user_version", 9_999).expect("a newer version");
    newer.close().expect("closed");
    let before = std::fs::read(file(&dir)).expect("the file");
    let error = Store::open(&file(&dir)).expect_err("it is refused");
    assert!(error.0.contains("9999") && error.0.contains("this program knows"), "{error}");
    assert_eq!(std::fs::read(file(&dir)).expect("the file"), before);
    let beside: Vec<_> =
        std::fs::read_dir(dir.path()).expect("the directory").flatten().map(|e| e.file_name()).collect();
    assert_eq!(beside, ["mail.db"]);
}

/// SQ-10: what cannot be read is an error, never an empty store; and it is left for a person to rescue.
#[test]
fn a_corrupt_store_is_refused_and_untouched() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::File::create(file(&dir)).expect("the store's file");
    drop(Store::open(&file(&dir)).expect("it becomes a store"));
    let good = std::fs::read(file(&dir)).expect("the file");
    let text = b"this is somebody's shopping list\n".repeat(200);
    let mut torn = good.clone();
    torn[..16].fill(0);
    let mut schema = good.clone();
    schema[100..4_096].fill(0xff);
    for bad in [text, torn, schema] {
        std::fs::write(file(&dir), &bad).expect("the file");
        let outcome = Store::open(&file(&dir)).and_then(|store| store.load().map(|_| ()));
        assert!(outcome.is_err(), "refused");
        assert_eq!(std::fs::read(file(&dir)).expect("the file"), bad);
    }
}

/// A store of which a part is gone is not taken for one that never had it.
#[test]
fn a_cut_store_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::File::create(file(&dir)).expect("the store's file");
    drop(Store::open(&file(&dir)).expect("it becomes a store"));
    let good = std::fs::read(file(&dir)).expect("the file");
    std::fs::write(file(&dir), &good[..good.len() / 2]).expect("the file");
    assert!(Store::open(&file(&dir)).and_then(|store| store.load().map(|_| ())).is_err());
}

/// Two programs never have the store at once, whatever became of the relay's own lock.
#[test]
fn a_store_that_is_open_is_refused_to_others() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::File::create(file(&dir)).expect("the store's file");
    let first = Store::open(&file(&dir)).expect("it becomes a store");
    assert!(Store::open(&file(&dir)).is_err());
    drop(first);
    assert!(Store::open(&file(&dir)).is_ok());
}
