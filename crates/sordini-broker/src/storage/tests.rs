use super::*;

fn exercise(storage: &mut dyn Storage) {
    assert_eq!(storage.list("a-0").expect("list"), []);
    storage.create_dir("a-0").expect("create");
    storage.create_dir("a-0").expect("create again");
    storage.append("a-0/x.log", &[b"he", b"", b"llo"]).expect("append");
    storage.append("a-0/x.log", &[b" world"]).expect("append");
    assert_eq!(storage.len("a-0/x.log").expect("len"), Some(11));
    assert_eq!(storage.len("a-0/y.log").expect("len"), None);
    assert_eq!(&storage.read("a-0/x.log", 4, 3).expect("read")[..], b"o w");
    assert_eq!(&storage.read("a-0/x.log", 9, 100).expect("read")[..], b"ld");
    assert_eq!(&storage.read("a-0/x.log", 900, 100).expect("read")[..], b"");
    let missing = storage.read("a-0/y.log", 0, 1).expect_err("no file");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    storage.truncate("a-0/x.log", 5).expect("truncate");
    storage.truncate("a-0/x.log", 50).expect("truncate never grows");
    storage.append("a-0/x.log", &[b"!"]).expect("append");
    assert_eq!(&storage.read("a-0/x.log", 0, 100).expect("read")[..], b"hello!");
    storage.sync("a-0/x.log").expect("sync");
    storage.sync_dir("a-0").expect("sync dir");
    replace(storage, "a-0", "z", b"one", true).expect("replace");
    replace(storage, "a-0", "z", b"2", false).expect("replace");
    assert_eq!(&read_all(storage, "a-0/z", 1).expect("read")[..], b"2");
    let too_long = read_all(storage, "a-0/x.log", 5).expect_err("limit");
    assert_eq!(too_long.kind(), io::ErrorKind::InvalidData);
    storage.rename("a-0", "b-0").expect("rename folder");
    let names: Vec<_> = storage.list("b-0").expect("list").into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["x.log", "z"]);
    storage.remove("b-0/z").expect("remove");
    storage.remove("b-0/z").expect("remove again");
    assert!(storage.list("").expect("list").contains(&Entry { name: "b-0".into(), is_dir: true }));
    storage.remove_dir("b-0").expect("remove folder");
    storage.remove_dir("b-0").expect("remove folder again");
    assert_eq!(storage.len("b-0/x.log").expect("len"), None);
}

#[test]
fn memory_keeps_the_contract() {
    exercise(&mut MemoryStorage::new());
}

#[test]
fn the_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("tempdir");
    exercise(&mut DiskStorage::open(folder.path().join("data")).expect("open"));
}

#[test]
fn a_faultless_decorator_keeps_the_contract() {
    exercise(&mut FaultyStorage::new(MemoryStorage::new(), StorageFaults::new()));
}

#[test]
fn a_locked_folder_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().expect("tempdir");
    let first = DiskStorage::open(folder.path()).expect("open");
    let error = DiskStorage::open(folder.path()).expect_err("locked");
    let text = error.to_string();
    assert!(matches!(error, OpenFolderError::Locked { .. }));
    assert!(text.contains(&folder.path().display().to_string()), "{text}");
    assert!(text.contains("choose another folder"), "{text}");
    drop(first);
    DiskStorage::open(folder.path()).expect("the lock ends with its holder");
}

#[test]
fn a_folder_that_is_a_file_is_named() {
    let folder = tempfile::tempdir().expect("tempdir");
    let file = folder.path().join("file");
    std::fs::write(&file, b"").expect("write");
    let error = DiskStorage::open(&file).expect_err("a file");
    assert!(matches!(error, OpenFolderError::Unusable { .. }));
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn power_loss_leaves_only_what_was_synced() {
    let mut storage = MemoryStorage::new();
    storage.create_dir("d").expect("create");
    storage.append("d/kept", &[b"12"]).expect("append");
    storage.append("d/nameless", &[b"x"]).expect("append");
    storage.sync("d/kept").expect("sync");
    storage.sync("d/nameless").expect("sync");
    storage.remove("d/nameless").expect("remove");
    storage.sync_dir("d").expect("sync dir");
    storage.sync_dir("").expect("sync dir");
    storage.append("d/kept", &[b"3456"]).expect("append");
    storage.append("d/late", &[b"late"]).expect("append");
    storage.sync("d/late").expect("sync");
    storage.lose_power(|_, tail| tail / 2);
    assert_eq!(storage.paths(), ["d/kept"]);
    assert_eq!(storage.contents("d/kept").expect("kept"), b"1234");
}

#[test]
fn a_full_disk_tears_the_write_that_fills_it() {
    let faults = StorageFaults::new();
    let memory = MemoryStorage::new();
    let mut storage = FaultyStorage::new(memory.clone(), faults.clone());
    faults.full_after(5);
    storage.append("f", &[b"abc"]).expect("fits");
    let error = storage.append("f", &[b"de", b"fg"]).expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(memory.contents("f").expect("f"), b"abcde");
    faults.make_room();
    storage.append("f", &[b"!"]).expect("room");
}

#[test]
fn faults_strike_the_operation_and_path_they_name() {
    let faults = StorageFaults::new();
    let memory = MemoryStorage::new();
    let mut storage = FaultyStorage::new(memory.clone(), faults.clone());
    faults.fail(StorageOp::Append, ".log", 1, 1, 2, io::ErrorKind::Other);
    faults.fail(StorageOp::Sync, "", 0, 1, 0, io::ErrorKind::Other);
    storage.append("a.index", &[b"aaaa"]).expect("another path");
    storage.append("a.log", &[b"aaaa"]).expect("the first passes");
    storage.append("a.log", &[b"bbbb"]).expect_err("the second fails");
    storage.append("a.log", &[b"cc"]).expect("the third passes");
    assert_eq!(memory.contents("a.log").expect("a.log"), b"aaaabbcc");
    storage.sync("a.log").expect_err("sync fails once");
    storage.sync("a.log").expect("then passes");
}
