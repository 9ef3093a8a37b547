use std::path::Path;

use super::{camel_case, generate, schema, snake_case};

fn schema_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sordini-protocol/schema")
}

#[test]
fn committed_rust_is_what_the_tables_give() {
    super::run(&["--check".to_owned()]).expect("codegen --check");
}

#[test]
fn a_changed_table_is_noticed() {
    let krate = schema_dir().join("..");
    let mut files = generate(&schema_dir()).expect("generate");
    files[0].1.push_str("// changed\n");
    let error = super::check(&krate, &files).expect_err("a difference");
    assert!(error.contains("src/api_key.rs") && error.contains("cargo xtask codegen"), "{error}");
}

#[test]
fn tables_survive_printing_and_parsing() {
    for family in super::families(&schema_dir()).expect("families") {
        let name = super::table_name(&family);
        let text = std::fs::read_to_string(schema_dir().join(&name)).expect("table");
        let messages = schema::parse(&text).expect("a table");
        let body: String =
            text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
        assert_eq!(schema::print(&messages), body, "{name}");
    }
}

#[test]
fn names_become_rust_names() {
    for (kafka, rust) in [
        ("TimeoutMs", "timeout_ms"),
        ("IsrNodes", "isr_nodes"),
        ("Enable2Pc", "enable_2pc"),
        ("v3AndBelowTopics", "v3_and_below_topics"),
        ("ApiVersions", "api_versions"),
    ] {
        assert_eq!(snake_case(kafka), rust);
    }
    assert_eq!(camel_case("NOT_LEADER_OR_FOLLOWER"), "NotLeaderOrFollower");
}
